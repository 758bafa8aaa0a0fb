"""The objects of a container: what holds for each of them by itself."""

from __future__ import annotations

import asyncio
import re
import struct
import zlib
from array import array
from collections.abc import AsyncIterator
from dataclasses import dataclass
from heapq import heappush, heappushpop

from hf_agent.hyperfile.check.raw import place_of, read_inode
from hf_agent.hyperfile.check.reading import WINDOW_BYTES, Kept, get, windows
from hf_agent.hyperfile.check.report import KnownDamage, Report
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["CheckedObject", "ObjectTable", "inode_in_checkpoint"]

_NAME = re.compile(r"(\d{10})(?:\.(0|[1-9]\d{0,4}))?")
_FIRST_READ = 16 << 10
"""Header and entries of most objects, in one request."""
_AT_A_TIME = 16
"""Objects that are read side by side."""
_MOST_NODE_BYTES = 16 << 20
_MOST_INDEX_BYTES = 64 << 20
"""Kept of the entries: those of four million blocks at least; others are read again."""
_MOST_OF_ONE = 100
"""Violations of one object that are kept until it is known whether the object counts."""
_MOST_HELD = 20_000
"""Such violations of all objects; of further objects the first one is kept."""
_DEAD = (1 << 64) - 1


@dataclass(slots=True)
class CheckedObject:
    """A checkpoint object with a header that can be used. Offsets in bytes."""

    key: str
    number: int
    part: int
    size: int
    modified: float
    flags: int
    base: int
    inode: bytes
    """Empty in parts above 0."""
    meta_at: int
    meta_blocks: int
    data_at: int
    data_blocks: int
    entries_at: int
    counts: bool = False
    """Whether some state refers to it."""


class ObjectTable:
    """All objects of one container, by number and part.

    What an object breaks is reported once something counts on it: what lost a race is nobody's.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        report: Report,
        *,
        format: int,
        meta_log2: int,
        data_log2: int,
        known: KnownDamage,
        max_objects: int,
    ) -> None:
        self._store = store
        self._key = key
        self._report = report
        self._format = format
        self._meta_log2 = meta_log2
        self._data_log2 = data_log2
        self._damage = known
        self._max_objects = max_objects
        self._nodes: Kept[tuple[str, int], bytes] = Kept(_MOST_NODE_BYTES, len)
        self._indexes: Kept[tuple[int, int], array[int]] = Kept(
            _MOST_INDEX_BYTES, lambda indexes: indexes.itemsize * len(indexes)
        )
        self._held: dict[tuple[int, int], Report] = {}
        self._held_violations = 0
        self._unknown: set[tuple[int, int]] = set()
        """Objects that are there, and of which nothing can be said."""
        self.objects: dict[tuple[int, int], CheckedObject] = {}
        self.left_out = 0
        """Objects of checkpoints up to this one are not looked at: there are too many."""
        self.checkpoints: list[int] = []
        """Numbers of the objects that may be checkpoints, ascending."""

    async def load(self, *, upto: int) -> None:
        """List and check the objects of the checkpoints up to `upto`; later ones may be in the
        making. Of more than `max_objects`, the newest ones. Raises the store's errors."""
        self.left_out = await self._too_old(upto)
        batch: list[tuple[ObjectInfo, int, int]] = []
        async for each in self._listed(upto):
            if each[1] <= self.left_out:
                continue
            batch.append(each)
            if len(batch) == _AT_A_TIME:
                await self._load_all(batch)
                batch.clear()
        await self._load_all(batch)
        self.checkpoints = sorted(number for number, part in self.objects if not part)

    async def _too_old(self, upto: int) -> int:
        """The newest checkpoint that does not fit any more with all of its parts; 0 for none."""
        newest: list[int] = []
        left_out = 0
        async for _, number, _ in self._listed(upto):
            if len(newest) < self._max_objects:
                heappush(newest, number)
            else:
                left_out = max(left_out, heappushpop(newest, number))
        return left_out

    async def _listed(self, upto: int) -> AsyncIterator[tuple[ObjectInfo, int, int]]:
        async for info in self._store.list(self._key + "/"):
            if not isinstance(info, ObjectInfo):
                continue
            name = _NAME.fullmatch(info.key[len(self._key) + 1 :])
            if name is None or (name[2] is None) != (self._format <= 2):
                continue
            number, part = int(name[1]), int(name[2] or 0)
            if 1 <= number <= upto and part < 1 << 14:
                yield info, number, part

    async def _load_all(self, batch: list[tuple[ObjectInfo, int, int]]) -> None:
        async with asyncio.TaskGroup() as group:
            for info, number, part in batch:
                group.create_task(self._load(info, number, part))

    async def _load(self, info: ObjectInfo, number: int, part: int) -> None:
        if info.key in self._damage.objects:
            self._unknown.add((number, part))
            return
        broken = Report(_MOST_OF_ONE if self._held_violations < _MOST_HELD else 1)
        if self._format == 4:
            loaded = await self._stream(info, number, part)
        else:
            loaded = await self._segment(info, number, part, broken)
        if loaded is not None:
            found, head, head_at = loaded
            self.objects[number, part] = found
            if part and not found.flags & 3:
                broken.add(info.key, 0, "every part above 0 is partial, or a compactor's")
            if self._format >= 2:
                broken.expect(found.size <= 1 << 30, info.key, 0, "no object is over 1 GiB")
            await self._check_entries(found, head, head_at, broken)
        elif broken.violations():
            self._unknown.add((number, part))
        if broken.violations():
            self._held[number, part] = broken
            self._held_violations += len(broken.violations())

    async def _segment(
        self, info: ObjectInfo, number: int, part: int, broken: Report
    ) -> tuple[CheckedObject, bytes, int] | None:
        head = await get(self._store, info.key, 0, min(_FIRST_READ, info.size))
        if len(head) < 208 or struct.unpack_from("<I", head)[0] != 0x48465353:
            return None
        s_bytes, flags, meta_log2, data_log2, base = struct.unpack_from("<IHBBQ", head, 8)
        ino, found, metas, datas = struct.unpack_from("<QQII", head, 184)
        if found != number or (flags & 1 and not part):
            return None  # somebody else's bytes under a number that is taken
        expect, key = broken.expect, info.key
        expect(ino == 0, key, 184, "ino of a header is 0")
        expect(s_bytes == 208 + 16 * datas, key, 8, "s_bytes is 208 + 16 x data blocks")
        sizes = (meta_log2, data_log2) == (self._meta_log2, self._data_log2)
        expect(sizes, key, 14, "a header has the block sizes of the inode")
        entries_end = 208 + 16 * datas
        meta_at = -(-entries_end // 4096) * 4096
        data_at = meta_at + (metas << self._meta_log2)
        end = data_at + (datas << self._data_log2)
        if not expect(end <= info.size, key, 200, "all blocks that a header names are there"):
            return None
        filling = head[entries_end:meta_at]
        if meta_at > len(head):
            filling = await get(self._store, key, entries_end, meta_at)
        expect(not any(filling), key, entries_end, "the summary is filled up with zeros")
        loaded = CheckedObject(
            *(key, number, part, info.size, info.last_modified, flags, base),
            *(b"" if part else head[24:184], meta_at, metas, data_at, datas, 208),
        )
        return loaded, head, 0

    async def _stream(
        self, info: ObjectInfo, number: int, part: int
    ) -> tuple[CheckedObject, bytes, int] | None:
        head_at = max(info.size - _FIRST_READ, 0)
        head = await get(self._store, info.key, head_at, info.size)
        tail = head[-256:]
        if len(tail) < 256 or tail[:4] != b"HFST" or tail[4:6] != b"\x01\x00":
            return None
        flags, found, in_part, meta_log2, data_log2 = struct.unpack_from("<HQHBB", tail, 6)
        datas, metas = struct.unpack_from("<II", tail, 20)
        base = struct.unpack_from("<Q", tail, 32)[0]
        if struct.unpack_from("<I", tail, 252)[0] != zlib.crc32(tail[:252]):
            return None
        meta_at = datas << data_log2
        entries_at = meta_at + (metas << meta_log2)
        exact = entries_at + 16 * datas + 256 == info.size
        named = (found, in_part) == (number, part)
        sizes = (meta_log2, data_log2) == (self._meta_log2, self._data_log2)
        if not (exact and named and sizes) or (flags & 1 and not part):
            return None
        loaded = CheckedObject(
            *(info.key, number, part, info.size, info.last_modified, flags, base),
            *(b"" if part else tail[40:200], meta_at, metas, 0, datas, entries_at),
        )
        return loaded, head, head_at

    # -- entries ------------------------------------------------------------------------------

    async def _check_entries(
        self, found: CheckedObject, head: bytes, head_at: int, broken: Report
    ) -> None:
        """Entries ascend, and each points at its own slot."""
        if found.key in self._damage.entries:
            return
        start, end = found.entries_at, found.entries_at + 16 * found.data_blocks
        indexes = array("Q")
        if head_at <= start and end <= head_at + len(head):
            self._take_entries(found, head[start - head_at : end - head_at], indexes, broken)
        else:
            async for window in windows(self._store, found.key, start, end):
                self._take_entries(found, window, indexes, broken)
        self._keep_indexes(found, indexes)

    def _take_entries(
        self, found: CheckedObject, data: bytes, indexes: array[int], broken: Report
    ) -> None:
        """Append the block index of each entry to `indexes`, all bits set for a dead slot."""
        last = next((index for index in reversed(indexes) if index != _DEAD), -1)
        whole = memoryview(data)[: len(data) // 16 * 16]
        for slot, (index, pointer) in enumerate(struct.iter_unpack("<QQ", whole), len(indexes)):
            own = self._points_at(found, slot, pointer)
            if not own and self._format == 4:
                indexes.append(_DEAD)
                continue
            entry_at = found.entries_at + 16 * slot
            rule = "the pointer of an entry leads to its own slot"
            broken.expect(own, found.key, entry_at, rule)
            broken.expect(index > last, found.key, entry_at, "entries ascend")
            indexes.append(index)
            last = index

    def _keep_indexes(self, found: CheckedObject, indexes: array[int]) -> None:
        narrow = not indexes or max(indexes) < 1 << 32
        kept = array("I", indexes) if narrow else indexes
        self._indexes.put((found.number, found.part), kept)

    async def _indexes_of(self, found: CheckedObject) -> array[int]:
        indexes = self._indexes.get((found.number, found.part))
        if indexes is None:
            indexes, start = array("Q"), found.entries_at
            end, ignored = start + 16 * found.data_blocks, Report(0)
            async for window in windows(self._store, found.key, start, end):
                self._take_entries(found, window, indexes, ignored)
            self._keep_indexes(found, indexes)
        return indexes

    def _points_at(self, found: CheckedObject, slot: int, pointer: int) -> bool:
        place = place_of(pointer, self._format)
        if place is None or (place.checkpoint, place.part) != (found.number, found.part):
            return False
        if self._format == 2 and place.group != found.meta_blocks + slot >> 4:
            return False
        return place.offset == found.data_at + (slot << self._data_log2)

    # -- blocks -------------------------------------------------------------------------------

    def use(self, number: int, part: int) -> CheckedObject | None:
        """An object that something counts on, if it has a good header; reports what it breaks."""
        broken = self._held.pop((number, part), None)
        if broken is not None:
            for violation in broken.violations():
                self._report.take(violation)
        found = self.objects.get((number, part))
        if found is not None:
            found.counts = True
        return found

    def unknown(self, number: int, part: int) -> bool:
        """Whether an object is damaged, or missing, as is known already; or was left out."""
        if number <= self.left_out:
            return True
        known = self._name(number, part) in self._damage.objects
        return known or (number, part) in self._unknown

    def _missing(self, number: int, part: int) -> None:
        """A pointer leads to an object without a good header: that object is what is wrong."""
        if not self.unknown(number, part):
            rule = "a pointer leads to an object of the container"
            self._report.add(self._name(number, part), 0, rule)

    def _name(self, number: int, part: int) -> str:
        return f"{self._key}/{number:010d}" + ("" if self._format <= 2 else f".{part}")

    async def data_slot(self, pointer: int, index: int) -> str:
        """The rule that a data block's pointer breaks, "" for none."""
        place = place_of(pointer, self._format)
        if place is None:
            return "a leaf holds block pointers"
        found = self.use(place.checkpoint, place.part)
        if found is None:
            self._missing(place.checkpoint, place.part)
            return ""
        slot, rest = divmod(place.offset - found.data_at, 1 << self._data_log2)
        if rest or not 0 <= slot < found.data_blocks:
            return "a pointer leads to a data block"
        if self._format == 2 and place.group != found.meta_blocks + slot >> 4:
            return "the low bits of a pointer hold the number of the block in its object"
        if found.key not in self._damage.entries:
            indexes = await self._indexes_of(found)
            if slot < len(indexes) and indexes[slot] != index:
                return "a data block has an entry with its own index"
        return ""

    async def node(self, pointer: int) -> tuple[CheckedObject, int, bytes] | str:
        """The object and offset of a map node, and its bytes; or the rule that is broken, "" where
        there is nothing to say."""
        place = place_of(pointer, self._format)
        if place is None:
            return "an inner node holds pointers to map nodes"
        found = self.use(place.checkpoint, place.part)
        if found is None:
            self._missing(place.checkpoint, place.part)
            return ""
        slot, rest = divmod(place.offset - found.meta_at, 1 << self._meta_log2)
        if rest or not 0 <= slot < found.meta_blocks:
            return "a pointer leads to a map node"
        if self._format == 2 and place.group != slot >> 4:
            return "the low bits of a pointer hold the number of the block in its object"
        if (found.key, place.offset) in self._damage.nodes:
            return ""
        size = 1 << self._meta_log2
        per_window = max(WINDOW_BYTES // size, 1)
        window, in_window = divmod(slot, per_window)
        data = self._nodes.get((found.key, window))
        if data is None:
            start = found.meta_at + window * per_window * size
            end = min(start + per_window * size, found.meta_at + found.meta_blocks * size)
            data = await get(self._store, found.key, start, end)
            self._nodes.put((found.key, window), data)
        return found, place.offset, data[in_window * size : (in_window + 1) * size]

    async def zero_to_the_end(self, pointer: int, start: int) -> bool:
        """Whether a data block is zero from byte `start` on, as far as that can be told."""
        place = place_of(pointer, self._format)
        assert place is not None
        found = self.objects.get((place.checkpoint, place.part))
        if found is None or (found.key, place.offset) in self._damage.blocks:
            return True
        end = place.offset + (1 << self._data_log2)
        async for piece in windows(self._store, found.key, place.offset + start, end):
            if any(piece):
                return False
        return True

    def check_inode(self, found: CheckedObject) -> bool:
        """What holds for the inode in a checkpoint's header; returns whether it can be used."""
        report = self._report
        inode_at = found.size - 256 + 40 if self._format == 4 else 24
        inode = read_inode(found.inode)
        if isinstance(inode, str):
            report.add(found.key, inode_at, inode)
            return False
        sizes = (inode.format, inode.meta_log2, inode.data_log2)
        same = sizes == (self._format, self._meta_log2, self._data_log2)
        report.expect(same, found.key, inode_at, "a checkpoint has the meta config of the inode")
        named = inode.last_cno == found.number and inode.last_seq >= found.number
        report.expect(named, found.key, inode_at, "the inode of checkpoint N has last_cno N")
        report.expect(not inode.inline, found.key, inode_at, "a checkpoint's inode is not inline")
        return same and not inode.inline


async def inode_in_checkpoint(store: Store, key: str, number: int) -> tuple[bytes, str]:
    """The inode in the header of checkpoint `number`, whatever format it has, and its object.

    No bytes when there is none. Raises the store's errors.
    """
    for name in (f"{key}/{number:010d}", f"{key}/{number:010d}.0"):
        try:
            tail = (await store.get(name, suffix=256)).data
        except StoreNotFound:
            continue
        if name.endswith(".0") and tail[:4] == b"HFST":
            return tail[40:200], name
        return await get(store, name, 24, 184), name
    return b"", f"{key}/{number:010d}.0"
