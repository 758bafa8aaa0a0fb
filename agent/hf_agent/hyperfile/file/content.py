"""What one stored state of a container holds: its bytes, through its block map."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from hf_agent.hyperfile.data_runs import read_blocks
from hf_agent.hyperfile.file.map_view import MapNodes, MapView
from hf_agent.hyperfile.file.options import FileOptions
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.store.base import Store

__all__ = ["Content", "Sources"]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a container's states are read from: shared by all of them, with what is cached."""

    objects: CheckpointObjects
    nodes: MapNodes

    request_bytes: int
    """Blocks that lie side by side are read in one request of up to this size."""
    requests: int
    """Requests of one read that run at a time."""

    @classmethod
    def of(cls, store: Store, key: str, inode: Inode, *, options: FileOptions) -> Sources:
        """With empty caches of `options.cache_bytes` together."""
        # For a million blocks 4 MB of checksums, 16 MB of map, and 17 MB of it decoded.
        eighth = options.cache_bytes // 8
        objects = CheckpointObjects(
            *(store, key, inode.meta), cache_bytes=eighth, node_cache_bytes=3 * eighth
        )
        nodes = MapNodes(objects, inode.meta, key=key, cache_bytes=4 * eighth)
        return cls(objects, nodes, options.request_bytes, options.requests)


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
        return await read_blocks(
            *(self.sources.objects, pointers, self.inode.meta),
            skip=skip,
            length=length,
            max_bytes=self.sources.request_bytes,
            requests=self.sources.requests,
        )
