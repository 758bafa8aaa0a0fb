"""A container's checkpoint objects: headers, map nodes and data, read, checked and cached.

What is small and needed again (headers, map nodes, trailers) is kept, within a bound; data is not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from weakref import WeakValueDictionary

from crc32c import crc32c

from hf_agent.hyperfile.anchor import VersionAnchor
from hf_agent.hyperfile.block_checksums import BlockChecksums
from hf_agent.hyperfile.bounded_cache import BoundedCache
from hf_agent.hyperfile.errors import ChecksumError, FormatError, MissingObject
from hf_agent.hyperfile.inode import decode_inode
from hf_agent.hyperfile.keys import place_key
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.opening import FoundCheckpoint
from hf_agent.hyperfile.pointers import Place, decode_place
from hf_agent.hyperfile.segment import ObjectHeader, decode_segment_header
from hf_agent.hyperfile.stored_trailer import read_trailer
from hf_agent.hyperfile.stream_object import STREAM_HEADER_BYTES, decode_stream_header
from hf_agent.hyperfile.trailer import Trailer
from hf_agent.store.base import ObjectInfo, Store, StoreConflict, StoreNotFound

__all__ = ["DEFAULT_CACHE_BYTES", "CheckpointObjects"]

DEFAULT_CACHE_BYTES = 16 << 20
_FIRST_READ_BYTES = 16 << 10
"""Header, entries and map nodes of a usual checkpoint, in one request."""
_NODE_WINDOW_BYTES = 1 << 20
"""Map nodes are read in windows of this size (at least one node)."""
_DATA_WINDOW_BYTES = 16 << 20
"""Blocks that are checked are read in pieces of this size, however large they are."""
_FIXED_COST = 512
"""Bytes that a cached object is taken to cost beside its blocks."""


@dataclass(frozen=True, slots=True)
class _Object:
    info: ObjectInfo
    header: ObjectHeader
    head: bytes
    """Bytes around the header, as they came."""
    head_offset: int
    trailer: Trailer | None
    """None where the object has none, or where nothing is checked."""


class CheckpointObjects:
    """Reads through one container's checkpoint objects. Not for concurrent change of them: they
    are never overwritten, so what is cached stays true.

    With `checked`, everything that it gives out of an object with a trailer has been compared
    with its checksum.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        meta: MetaConfig,
        *,
        checked: bool = True,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
        node_cache_bytes: int | None = None,
    ) -> None:
        """`cache_bytes` for headers and checksums, `node_cache_bytes` for map nodes; the former
        for both together where only that is given."""
        if node_cache_bytes is None:
            cache_bytes = node_cache_bytes = cache_bytes // 2
        self._store = store
        self._key = key
        self._meta = meta
        self._checked = checked
        self._anchor: VersionAnchor | None = None
        self._objects: BoundedCache[str, _Object] = BoundedCache(cache_bytes)
        self._nodes: BoundedCache[tuple[str, int], bytes] = BoundedCache(node_cache_bytes)
        self._loading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @property
    def cached_bytes(self) -> int:
        """What the caches hold now, never more than their bound."""
        return self._objects.cost + self._nodes.cost

    def stand_on(self, found: FoundCheckpoint) -> None:
        """From now on read the version of a checkpoint that was found just now. What another
        container at the same key holds is then refused."""
        self._anchor = VersionAnchor(self._store, self._key, found)

    async def stand_on_newest(self, checkpoint: int) -> bytes:
        """The same, with the checkpoint looked up; returns the inode in its header, 160 bytes.

        Raises `FormatError`, and the store's errors.
        """
        self._anchor = None
        found = await self._object(Place(checkpoint, 0, 0))
        inode = decode_inode(found.header.inode, source=found.info.key)
        self.stand_on(FoundCheckpoint(found.info, found.header, inode))
        return found.header.inode

    async def load_node(self, pointer: int) -> bytes:
        """The meta block that `pointer` leads to; its neighbours are read with it.

        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        place = decode_place(pointer, self._meta.pointer_format)
        found = await self._object(place)
        header, size = found.header, self._meta.meta_block_size
        number, rest = divmod(place.offset - header.meta_offset, size)
        if rest or not 0 <= number < header.meta_blocks:
            rule = f"a pointer leads to byte {place.offset}, where no map node begins"
            raise FormatError(rule, object=found.info.key, offset=place.offset)
        per_window = max(_NODE_WINDOW_BYTES // size, 1)
        window, in_window = divmod(number, per_window)
        nodes = await self._node_window(found, window, per_window)
        block = nodes[in_window * size : (in_window + 1) * size]
        if found.trailer is not None and crc32c(block) != found.trailer.meta_crcs[number]:
            raise ChecksumError(f"map node {number}", object=found.info.key, offset=place.offset)
        return block

    async def read_data(self, place: Place, skip: int, length: int) -> bytes:
        """`length` bytes of data blocks that lie one behind the other, from `skip` bytes behind
        `place` on.

        Where the object has checksums, whole blocks are read, however little of them is wanted.
        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        found = await self._object(place)
        header, size = found.header, self._meta.data_block_size
        number, rest = divmod(place.offset - header.data_offset, size)
        start = place.offset + skip
        if rest or number < 0 or start + length > header.data_end:
            rule = f"a pointer leads to byte {place.offset}, where no data block begins"
            raise FormatError(rule, object=found.info.key, offset=place.offset)
        if found.trailer is None:
            return await self._read(found.info, start, start + length)
        return await self._read_blocks(found, found.trailer, start, start + length)

    async def _read_blocks(
        self, found: _Object, trailer: Trailer, wanted: int, wanted_end: int
    ) -> bytes:
        """Bytes `[wanted, wanted_end)` of an object, all blocks that they lie in checked."""
        base, size = found.header.data_offset, self._meta.data_block_size
        number = (wanted - base) // size
        at, end = base + number * size, base + -(-(wanted_end - base) // size) * size
        checksums, parts = BlockChecksums(size), []
        while at < end:
            piece = await self._read(found.info, at, min(at + _DATA_WINDOW_BYTES, end))
            for crc in checksums.feed(piece):
                if crc != trailer.data_crcs[number]:
                    key, offset = found.info.key, base + number * size
                    raise ChecksumError(f"data block {number}", object=key, offset=offset)
                number += 1
            parts.append(piece[max(wanted - at, 0) : max(wanted_end - at, 0)])
            at += len(piece)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _node_window(self, found: _Object, window: int, per_window: int) -> bytes:
        header = found.header
        start = header.meta_offset + window * per_window * self._meta.meta_block_size
        end = min(start + per_window * self._meta.meta_block_size, header.meta_end)
        if found.head_offset <= start and end <= found.head_offset + len(found.head):
            return found.head[start - found.head_offset : end - found.head_offset]
        nodes = self._nodes.get((found.info.key, window))
        if nodes is None:
            nodes = await self._read(found.info, start, end)
            self._nodes.put((found.info.key, window), nodes, len(nodes))
        return nodes

    async def _object(self, place: Place) -> _Object:
        key = place_key(self._key, place, self._meta.pointer_format)
        # Reads that run side by side come to an object at the same moment: one of them loads it.
        lock = self._loading.get(key)
        if lock is None:
            lock = self._loading[key] = asyncio.Lock()
        async with lock:
            found = self._objects.get(key)
            if found is None:
                found = await self._load_object(key, place)
                self._objects.put(key, found, _cost(found))
        return found

    async def _load_object(self, key: str, place: Place) -> _Object:
        stream = self._meta.pointer_format is PointerFormat.STREAM
        try:
            if stream:
                answer = await self._store.get(key, suffix=_FIRST_READ_BYTES)
            else:
                # Without a start: a cache may know an object of that name that another container
                # had here, and must not answer before it has asked.
                answer = await self._store.get(key, end=_FIRST_READ_BYTES)
        except (StoreConflict, StoreNotFound) as error:
            rule = "a pointer leads to an object that is not there"
            raise MissingObject(rule, object=key, offset=place.offset) from error
        if stream:
            header = decode_stream_header(
                answer.data[-STREAM_HEADER_BYTES:],
                source=key,
                object_size=answer.info.size,
                checkpoint=place.checkpoint,
                part=place.part,
            )
        else:
            header = decode_segment_header(
                answer.data, source=key, object_size=answer.info.size, checked=self._checked
            )
        meta = self._meta
        if header.checkpoint != place.checkpoint:
            rule = f"a header names another checkpoint, {header.checkpoint}"
            raise FormatError(rule, object=key, offset=192)
        if (header.meta_shift, header.data_shift) != (meta.meta_shift, meta.data_shift):
            rule = "a header names other block sizes than the inode"
            raise FormatError(rule, object=key, offset=14)
        trailer = None
        if self._checked:
            size = answer.info.size
            trailer = await read_trailer(self._store, key, header, size, known=answer)
        if self._anchor is not None:
            await self._anchor.check(answer.info, header.inode)
        # Of what came, only map nodes are of further use.
        start = max(header.meta_offset - answer.offset, 0)
        head = answer.data[start : max(header.meta_end - answer.offset, start)]
        return _Object(answer.info, header, head, answer.offset + start, trailer)

    async def _read(self, info: ObjectInfo, start: int, end: int) -> bytes:
        key = info.key
        try:
            answer = await self._store.get(key, start=start, end=end, if_match=info.etag or None)
        except StoreConflict as error:
            # Objects are never overwritten: that is another container's, of the same name.
            if self._anchor is not None:
                raise self._anchor.stale("another container was made at its key", key) from error
            rule = "an object was replaced while it was read"
            raise MissingObject(rule, object=key, offset=start) from error
        except StoreNotFound as error:
            rule = "an object has gone while it was read"
            raise MissingObject(rule, object=key, offset=start) from error
        if len(answer.data) != end - start:
            rule = f"the object ends {end - start - len(answer.data)} bytes early"
            raise FormatError(rule, object=key, offset=start)
        return answer.data


def _cost(found: _Object) -> int:
    trailer = found.trailer
    checksums = 0 if trailer is None else len(trailer.meta_crcs) + len(trailer.data_crcs)
    return _FIXED_COST + len(found.head) + 4 * checksums
