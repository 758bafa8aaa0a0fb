"""A container's checkpoint objects: headers, map nodes and data, read, checked and cached.

What is small and needed again (headers, map nodes, trailers) is kept, within a bound; data is not.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from crc32c import crc32c

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.keys import place_key
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.pointers import Place, decode_place
from hf_agent.hyperfile.segment import ObjectHeader, decode_segment_header
from hf_agent.hyperfile.stored_trailer import read_trailer
from hf_agent.hyperfile.stream_object import STREAM_HEADER_BYTES, decode_stream_header
from hf_agent.hyperfile.trailer import Trailer
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["DEFAULT_CACHE_BYTES", "CheckpointObjects"]

DEFAULT_CACHE_BYTES = 16 << 20
_FIRST_READ_BYTES = 16 << 10
"""Header, entries and map nodes of a usual checkpoint, in one request."""
_NODE_WINDOW_BYTES = 1 << 20
"""Map nodes are read in windows of this size (at least one node)."""
_FIXED_COST = 512
"""Bytes that a cached object is taken to cost beside its blocks."""


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    header: ObjectHeader
    head: bytes
    """Bytes around the header, as they came."""
    head_offset: int
    trailer: Trailer | None


class CheckpointObjects:
    """Reads through one container's checkpoint objects. Not for concurrent change of them: they
    are never overwritten, so what is cached stays true."""

    def __init__(
        self, store: Store, key: str, meta: MetaConfig, *, cache_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self._store = store
        self._key = key
        self._meta = meta
        self._cache: OrderedDict[tuple[str, int], tuple[int, _Object | bytes]] = OrderedDict()
        self._cache_bytes = cache_bytes
        self.cached_bytes = 0
        """What the cache holds now, never more than its bound."""

    def drop_cache(self) -> None:
        """Forget everything; it is read again when needed."""
        self._cache.clear()
        self.cached_bytes = 0

    async def load_node(self, pointer: int) -> bytes:
        """The meta block that `pointer` leads to; its neighbours are read with it.

        Raises `FormatError`, and the store's errors.
        """
        place = decode_place(pointer, self._meta.pointer_format)
        found = await self._object(place)
        header, size = found.header, self._meta.meta_block_size
        number, rest = divmod(place.offset - header.meta_offset, size)
        if rest or not 0 <= number < header.meta_blocks:
            rule = f"a pointer leads to byte {place.offset}, where no map node begins"
            raise FormatError(rule, object=found.key, offset=place.offset)
        per_window = max(_NODE_WINDOW_BYTES // size, 1)
        window, in_window = divmod(number, per_window)
        nodes = await self._node_window(found, window, per_window)
        block = nodes[in_window * size : (in_window + 1) * size]
        if found.trailer is not None and crc32c(block) != found.trailer.meta_crcs[number]:
            rule = "the checksum of a map node does not match"
            raise FormatError(rule, object=found.key, offset=place.offset)
        return block

    async def read_data(self, place: Place, skip: int, length: int) -> bytes:
        """`length` bytes of data blocks that lie one behind the other, from `skip` bytes behind
        `place` on.

        Blocks that are covered in full are checked where the object has checksums.
        Raises `FormatError`, and the store's errors.
        """
        found = await self._object(place)
        header, size = found.header, self._meta.data_block_size
        number, rest = divmod(place.offset - header.data_offset, size)
        end = place.offset + skip + length
        if rest or number < 0 or end > header.data_end:
            rule = f"a pointer leads to byte {place.offset}, where no data block begins"
            raise FormatError(rule, object=found.key, offset=place.offset)
        data = await self._read(found.key, place.offset + skip, end)
        if found.trailer is not None:
            self._check_data(found.key, found.trailer, number, place.offset, skip, data)
        return data

    def _check_data(
        self, key: str, trailer: Trailer, number: int, offset: int, skip: int, data: bytes
    ) -> None:
        size, view = self._meta.data_block_size, memoryview(data)
        first = -(-skip // size)
        for block in range(first, (skip + len(data)) // size):
            start = block * size - skip
            if crc32c(view[start : start + size]) != trailer.data_crcs[number + block]:
                rule = "the checksum of a data block does not match"
                raise FormatError(rule, object=key, offset=offset + block * size)

    async def _node_window(self, found: _Object, window: int, per_window: int) -> bytes:
        header = found.header
        start = header.meta_offset + window * per_window * self._meta.meta_block_size
        end = min(start + per_window * self._meta.meta_block_size, header.meta_end)
        if found.head_offset <= start and end <= found.head_offset + len(found.head):
            return found.head[start - found.head_offset : end - found.head_offset]
        cached = self._recall((found.key, window))
        if isinstance(cached, bytes):
            return cached
        nodes = await self._read(found.key, start, end)
        self._remember((found.key, window), nodes, len(nodes))
        return nodes

    async def _object(self, place: Place) -> _Object:
        key = place_key(self._key, place, self._meta.pointer_format)
        cached = self._recall((key, -1))
        if isinstance(cached, _Object):
            return cached
        try:
            found = await self._load_object(key, place)
        except StoreNotFound as error:
            rule = "a pointer leads to an object that is not there"
            raise FormatError(rule, object=key, offset=place.offset) from error
        trailer = found.trailer
        checksums = 0 if trailer is None else len(trailer.meta_crcs) + len(trailer.data_crcs)
        self._remember((key, -1), found, _FIXED_COST + len(found.head) + 4 * checksums)
        return found

    async def _load_object(self, key: str, place: Place) -> _Object:
        if self._meta.pointer_format is PointerFormat.STREAM:
            answer = await self._store.get(key, suffix=_FIRST_READ_BYTES)
            header = decode_stream_header(
                answer.data[-STREAM_HEADER_BYTES:],
                source=key,
                object_size=answer.info.size,
                checkpoint=place.checkpoint,
                part=place.part,
            )
        else:
            answer = await self._store.get(key, start=0, end=_FIRST_READ_BYTES)
            header = decode_segment_header(answer.data, source=key, object_size=answer.info.size)
        meta = self._meta
        if header.checkpoint != place.checkpoint:
            rule = f"a header names another checkpoint, {header.checkpoint}"
            raise FormatError(rule, object=key, offset=192)
        if (header.meta_shift, header.data_shift) != (meta.meta_shift, meta.data_shift):
            rule = "a header names other block sizes than the inode"
            raise FormatError(rule, object=key, offset=14)
        trailer = await read_trailer(self._store, key, header, answer.info.size)
        # Of what came, only map nodes are of further use.
        start = max(header.meta_offset - answer.offset, 0)
        head = answer.data[start : max(header.meta_end - answer.offset, start)]
        return _Object(key, header, head, answer.offset + start, trailer)

    async def _read(self, key: str, start: int, end: int) -> bytes:
        try:
            answer = await self._store.get(key, start=start, end=end)
        except StoreNotFound as error:
            rule = "an object has gone while it was read"
            raise FormatError(rule, object=key, offset=start) from error
        if len(answer.data) != end - start:
            rule = f"the object ends {end - start - len(answer.data)} bytes early"
            raise FormatError(rule, object=key, offset=start)
        return answer.data

    def _recall(self, name: tuple[str, int]) -> _Object | bytes | None:
        cached = self._cache.get(name)
        if cached is None:
            return None
        self._cache.move_to_end(name)
        return cached[1]

    def _remember(self, name: tuple[str, int], value: _Object | bytes, cost: int) -> None:
        if cost > self._cache_bytes:
            return
        replaced = self._cache.pop(name, None)
        self.cached_bytes += cost - (replaced[0] if replaced is not None else 0)
        self._cache[name] = (cost, value)
        while self.cached_bytes > self._cache_bytes:
            _, (freed, _) = self._cache.popitem(last=False)
            self.cached_bytes -= freed
