"""Damage to objects on a memory store, and objects as other programs write them."""

from __future__ import annotations

import struct

from crc32c import crc32c

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


def with_trailer_version(body: bytes, version: int) -> bytes:
    """A checkpoint object whose trailer says another version, with the checksum that fits."""
    at = len(body) - TRAILER_TAIL
    (length,) = struct.unpack_from("<I", body, at + 12)
    trailer = body[-length : at + 8] + struct.pack("<H", version) + body[at + 10 : -4]
    return body[:-length] + trailer + struct.pack("<I", crc32c(trailer))


def resealed(body: bytes) -> bytes:
    """A checkpoint object of this package with all its checksums made to fit its bytes."""
    (length,) = struct.unpack_from("<I", body, len(body) - TRAILER_TAIL + 12)
    (s_bytes,) = struct.unpack_from("<I", body, 8)
    metas, datas = struct.unpack_from("<II", body, 200)
    data_shift = body[15]
    header = body[:4] + bytes(4) + body[8:208]
    body = body[:4] + struct.pack("<I", crc32c(header) or 1) + body[8:]
    meta_at = -(-s_bytes // 4096) * 4096
    data_at = meta_at + (metas << body[14])
    crcs = [crc32c(body[:meta_at])]
    crcs += [
        crc32c(body[at : at + (1 << body[14])]) for at in range(meta_at, data_at, 1 << body[14])
    ]
    end = data_at + (datas << data_shift)
    crcs += [
        crc32c(body[at : at + (1 << data_shift)]) for at in range(data_at, end, 1 << data_shift)
    ]
    checksums = struct.pack(f"<{len(crcs)}I", *crcs).ljust(length - TRAILER_TAIL, b"\0")
    unsigned = checksums + body[-TRAILER_TAIL:-4]
    return body[:end] + unsigned + struct.pack("<I", crc32c(unsigned))


def rewrite(store: MemoryStore, key: str, offset: int, data: bytes) -> None:
    """Write other bytes into an object of this package as a faulty writer would have: with
    checksums that fit."""
    body = store.body(key)
    store.put(key, resealed(body[:offset] + data + body[offset + len(data) :]))
