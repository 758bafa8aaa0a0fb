"""What a chunk that is sent again is known by."""

from __future__ import annotations

from hashlib import blake2b

from crc32c import crc32c

from hf_agent.ingest.forward.messages import Events

__all__ = ["chunk_key"]


def chunk_key(events: Events) -> bytes:
    """16 bytes for the chunk of these events, which have an id.

    The events themselves go in: somebody who uses an id twice, for different events, must not lose
    the second ones. Not if they are compressed: the same events may be compressed anew for each
    try, and gzip puts the time into its header.
    """
    id = events.options.chunk
    content = 0 if events.options.compressed else crc32c(events.entries)
    head = b"%d %d %08x " % (len(events.tag), len(id), content)
    return blake2b(b"".join((head, events.tag, id)), digest_size=16).digest()
