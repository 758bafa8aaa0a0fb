"""What a chunk that is sent again is known by."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

from crc32c import crc32c

from hf_agent.ingest.forward.messages import Events

__all__ = ["chunk_key", "chunk_keys"]

_KEY_BYTES: Final = 16
_hash: Final = blake2b(digest_size=_KEY_BYTES)
"""To be copied: to make one takes longer than to use it."""


def chunk_key(events: Events) -> bytes:
    """16 bytes for the chunk of these events, which have an id.

    The events themselves go in: somebody who uses an id twice, for different events, must not lose
    the second ones. Not if they are compressed: the same events may be compressed anew for each
    try, and gzip puts the time into its header.
    """
    id = events.options.chunk
    content = 0 if events.options.compressed else crc32c(events.entries)
    head = b"%d %d %08x " % (len(events.tag), len(id), content)
    return blake2b(b"".join((head, events.tag, id)), digest_size=_KEY_BYTES).digest()


def chunk_keys(tag: bytes, ids: Sequence[bytes], entries: Sequence[bytes]) -> list[bytes]:
    """The same for many chunks of one tag that are not compressed: two or more."""
    contents = struct.pack(f">{len(ids)}I", *map(crc32c, entries)).hex(" ", 4).encode().split()
    copy, behind = _hash.copy, b" " + tag
    heads = {length: b"%d %d " % (len(tag), length) for length in set(map(len, ids))}
    keys = []
    for id, content in zip(ids, contents, strict=True):
        hashed = copy()
        hashed.update(b"".join((heads[len(id)], content, behind, id)))
        keys.append(hashed.digest())
    return keys
