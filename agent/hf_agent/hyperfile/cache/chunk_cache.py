"""What a cache of chunks is: chunks by an opaque key, any of which may be gone at any time."""

from __future__ import annotations

from typing import Protocol

__all__ = ["ChunkCache"]


class ChunkCache(Protocol):
    """Keeps byte strings for a while."""

    takes_scans: bool
    """Whether it is of use for reads of many chunks at once, which would drive out all else."""

    async def get(self, key: bytes) -> bytes | None:
        """The chunk of this key; None when it is not (or no longer) here, or damaged."""
        ...

    async def put(self, key: bytes, chunk: bytes) -> None:
        """Keep a chunk, if there is room for it. Never raises for want of room."""
        ...
