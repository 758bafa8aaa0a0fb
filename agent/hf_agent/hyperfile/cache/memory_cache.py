"""A cache of chunks in memory: the least recently used ones make room."""

from __future__ import annotations

from collections import OrderedDict

__all__ = ["MemoryCache"]

_COST = 200
"""Bytes that a chunk is taken to cost beside its own."""


class MemoryCache:
    """Implements `ChunkCache` within `max_bytes`. Lives on one event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.held_bytes = 0
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()

    async def get(self, key: bytes) -> bytes | None:
        """See `ChunkCache.get`."""
        chunk = self._chunks.get(key)
        if chunk is not None:
            self._chunks.move_to_end(key)
        return chunk

    async def put(self, key: bytes, chunk: bytes) -> None:
        """See `ChunkCache.put`."""
        cost = len(chunk) + _COST
        if cost > self.max_bytes:
            return
        old = self._chunks.pop(key, None)
        if old is not None:
            self.held_bytes -= len(old) + _COST
        self._chunks[key] = chunk
        self.held_bytes += cost
        while self.held_bytes > self.max_bytes:
            _, dropped = self._chunks.popitem(last=False)
            self.held_bytes -= len(dropped) + _COST
