"""A cache of chunks in memory: the least recently used ones make room."""

from __future__ import annotations

from hf_agent.hyperfile.bounded_cache import BoundedCache

__all__ = ["MemoryCache"]

_COST = 200
"""Bytes that a chunk is taken to cost beside its own."""


class MemoryCache:
    """Implements `ChunkCache` within `max_bytes`. Lives on one event loop."""

    takes_scans = False

    def __init__(self, max_bytes: int) -> None:
        self._chunks: BoundedCache[bytes, bytes] = BoundedCache(max_bytes)

    @property
    def held_bytes(self) -> int:
        """What is held now, never more than `max_bytes`."""
        return self._chunks.cost

    async def get(self, key: bytes) -> bytes | None:
        """See `ChunkCache.get`."""
        return self._chunks.get(key)

    async def put(self, key: bytes, chunk: bytes) -> None:
        """See `ChunkCache.put`."""
        self._chunks.put(key, chunk, len(chunk) + _COST)
