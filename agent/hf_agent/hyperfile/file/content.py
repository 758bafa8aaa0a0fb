"""What one stored state of a container holds: its bytes, through its block map."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import NamedTuple

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.file.map_view import MapNodes, MapView
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.hyperfile.pointers import Place, decode_place, is_place
from hf_agent.store.base import Store

__all__ = ["Content", "Sources"]

_MAX_REQUEST_BYTES = 8 << 20
"""Blocks that lie side by side are joined into one request up to this size."""
_MAX_REQUESTS = 8
"""Requests of one read that run at a time."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a container's states are read from: shared by all of them, with what is cached."""

    objects: CheckpointObjects
    nodes: MapNodes

    @classmethod
    def of(cls, store: Store, key: str, inode: Inode, *, cache_bytes: int) -> Sources:
        """With empty caches of `cache_bytes` together."""
        objects = CheckpointObjects(store, key, inode.meta, cache_bytes=cache_bytes // 2)
        nodes = MapNodes(objects, inode.meta, key=key, cache_bytes=cache_bytes // 2)
        return cls(objects, nodes)


class _Run(NamedTuple):
    """A part of a read: from one object, or (`place` None) zeros."""

    place: Place | None
    """Of the first block."""
    skip: int
    """Bytes of the first block to leave out."""
    length: int


class Content:
    """One state. Never changes."""

    def __init__(self, inode: Inode, sources: Sources, *, key: str) -> None:
        """`key` is the container's, for errors. Raises `FormatError` for a damaged root."""
        self.inode = inode
        self.size = inode.size
        self.sources = sources
        self.map = None if inode.inline is not None else MapView(inode, sources.nodes, key=key)

    async def pointers(self, first: int, count: int) -> array[int]:
        """Pointers of the blocks `[first, first + count)`; `HOLE` where there is no entry."""
        if self.map is None:
            return array("Q", bytes(8 * count))
        return await self.map.lookup(first, count)

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, all of them below `size`; holes are zeros.

        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        if length <= 0:
            return b""
        if self.inode.inline is not None:
            return self.inode.inline[offset : offset + length]
        size = self.inode.meta.data_block_size
        first, skip = divmod(offset, size)
        pointers = await self.pointers(first, -(-(skip + length) // size))
        return await self.read_blocks(pointers, skip, length)

    async def read_blocks(self, pointers: array[int], skip: int, length: int) -> bytes:
        """`length` bytes of the blocks at `pointers`, one behind the other, without the first
        `skip` bytes. Raises as `read`."""
        runs = self._runs(pointers, skip, length)
        parts = await map_concurrently(self._read_run, runs, limit=_MAX_REQUESTS)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _read_run(self, run: _Run) -> bytes:
        if run.place is None:
            return bytes(run.length)
        return await self.sources.objects.read_data(run.place, run.skip, run.length)

    def _runs(self, pointers: array[int], skip: int, length: int) -> list[_Run]:
        """Join neighbours: in the file, and in the object that they lie in."""
        size, pointer_format = self.inode.meta.data_block_size, self.inode.meta.pointer_format
        runs: list[_Run] = []
        joined: Place | None = None
        expected: Place | None = None
        joined_skip = joined_length = 0
        for pointer in pointers:
            place = decode_place(pointer, pointer_format) if is_place(pointer) else None
            taken = min(size - skip, length)
            if joined_length and place == expected and joined_length + taken <= _MAX_REQUEST_BYTES:
                joined_length += taken
            else:
                if joined_length:
                    runs.append(_Run(joined, joined_skip, joined_length))
                joined, joined_skip, joined_length = place, skip, taken
            expected = None if place is None else place._replace(offset=place.offset + size)
            length -= taken
            skip = 0
        runs.append(_Run(joined, joined_skip, joined_length))
        return runs
