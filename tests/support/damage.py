"""Damage to objects on a memory store, and objects as other programs write them."""

from __future__ import annotations

import struct

from support.memory_store import MemoryStore, StoredObject

TRAILER_TAIL = 64


def flip(store: MemoryStore, key: str, bit: int) -> None:
    """Flip one bit of a stored object, as a failing disk would: nothing else changes."""
    stored = store.objects[key]
    body = bytearray(stored.body)
    body[bit // 8] ^= 1 << bit % 8
    store.objects[key] = StoredObject(
        bytes(body), stored.etag, stored.last_modified, stored.metadata
    )


def without_checksums(body: bytes) -> bytes:
    """A checkpoint object as the crate would have written it: no header checksum, no trailer."""
    assert body[-TRAILER_TAIL:][:8] == b"HFAGTRLR"
    (length,) = struct.unpack_from("<I", body, len(body) - TRAILER_TAIL + 12)
    return body[:4] + bytes(4) + body[8:-length]
