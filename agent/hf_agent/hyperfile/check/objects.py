"""The objects of a container: what holds for each of them by itself."""

from __future__ import annotations

import re
import struct
import zlib
from array import array
from dataclasses import dataclass, field

from hf_agent.hyperfile.check.raw import place_of, read_inode
from hf_agent.hyperfile.check.report import Report
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["CheckedObject", "ObjectTable"]

_NAME = re.compile(r"(\d{10})(?:\.(0|[1-9]\d{0,4}))?")
_WINDOW = 1 << 20
_WINDOWS_KEPT = 16
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
    meta_at: int
    meta_blocks: int
    data_at: int
    data_blocks: int
    entries_at: int
    indexes: array[int] = field(default_factory=lambda: array("Q"))
    """The block index of each data block; all bits set for a dead slot."""


class ObjectTable:
    """All objects of one container, by number and part."""

    def __init__(
        self, store: Store, key: str, *, format: int, meta_log2: int, data_log2: int
    ) -> None:
        self._store = store
        self._key = key
        self._format = format
        self._meta_log2 = meta_log2
        self._data_log2 = data_log2
        self._windows: dict[tuple[str, int], bytes] = {}
        self.objects: dict[tuple[int, int], CheckedObject] = {}
        self.parts: dict[int, list[CheckedObject]] = {}
        """Parts above 0, by their checkpoint's number."""
        self.checkpoints: list[int] = []
        """Numbers of the objects that may be checkpoints, ascending."""

    async def load(self, report: Report, *, upto: int) -> None:
        """List and check the objects of the checkpoints up to `upto`.

        Later ones may be in the making. What has no good header may be anybody's: it is an error
        only when something refers to it. Raises the store's errors.
        """
        async for info in self._store.list(self._key + "/"):
            if not isinstance(info, ObjectInfo):
                continue
            found = _NAME.fullmatch(info.key[len(self._key) + 1 :])
            if found is None or (found[2] is None) != (self._format <= 2):
                continue
            number, part = int(found[1]), int(found[2] or 0)
            if 1 <= number <= upto and part < 1 << 14:
                await self._load(info, number, part, report)
        for (number, part), each in self.objects.items():
            if part:
                self.parts.setdefault(number, []).append(each)
        self.checkpoints = sorted(number for number, part in self.objects if not part)

    async def _load(self, info: ObjectInfo, number: int, part: int, report: Report) -> None:
        loaded = (
            await self._stream(info, number, part)
            if self._format == 4
            else await self._segment(info, number, part, report)
        )
        if loaded is None:
            return
        self.objects[number, part] = loaded
        if loaded.part and not loaded.flags & 3:
            report.add(info.key, 0, "every part above 0 is partial, or a compactor's")
        if self._format >= 2:
            report.expect(loaded.size <= 1 << 30, info.key, 0, "no object is larger than 1 GiB")
        await self._entries(loaded, report)

    async def _segment(
        self, info: ObjectInfo, number: int, part: int, report: Report
    ) -> CheckedObject | None:
        head = await self._get(info.key, 0, min(208, info.size))
        if len(head) < 208 or struct.unpack_from("<I", head)[0] != 0x48465353:
            return None
        s_bytes, flags, meta_log2, data_log2, base = struct.unpack_from("<IHBBQ", head, 8)
        ino, found, metas, datas = struct.unpack_from("<QQII", head, 184)
        if found != number or (flags & 1 and not part):
            return None  # somebody else's bytes under a number that is taken
        expect, key = report.expect, info.key
        expect(ino == 0, key, 184, "ino of a header is 0")
        expect(s_bytes == 208 + 16 * datas, key, 8, "s_bytes is 208 + 16 x data blocks")
        sizes = (meta_log2, data_log2) == (self._meta_log2, self._data_log2)
        expect(sizes, key, 14, "a header has the block sizes of the inode")
        meta_at = -(-(208 + 16 * datas) // 4096) * 4096
        data_at = meta_at + (metas << self._meta_log2)
        end = data_at + (datas << self._data_log2)
        expect(end <= info.size, key, 200, "all blocks that a header names are there")
        filling = await self._get(key, 208 + 16 * datas, min(meta_at, info.size))
        expect(not any(filling), key, 208 + 16 * datas, "the summary is filled up with zeros")
        return CheckedObject(
            *(key, number, part, info.size, info.last_modified, flags, base, head[24:184]),
            *(meta_at, metas, data_at, datas, 208),
        )

    async def _stream(self, info: ObjectInfo, number: int, part: int) -> CheckedObject | None:
        tail = await self._get(info.key, max(info.size - 256, 0), info.size)
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
        if not (exact and named and sizes):
            return None
        return CheckedObject(
            *(info.key, number, part, info.size, info.last_modified, flags, base, tail[40:200]),
            *(meta_at, metas, 0, datas, entries_at),
        )

    async def _entries(self, found: CheckedObject, report: Report) -> None:
        """Entries ascend, and each points at its own slot."""
        last = -1
        for start in range(0, found.data_blocks, _WINDOW // 16):
            count = min(_WINDOW // 16, found.data_blocks - start)
            at = found.entries_at + 16 * start
            data = await self._get(found.key, at, at + 16 * count)
            for slot, (index, pointer) in enumerate(struct.iter_unpack("<QQ", data), start):
                own = self._points_at(found, slot, pointer)
                if not own and self._format == 4:
                    found.indexes.append(_DEAD)
                    continue
                entry_at = found.entries_at + 16 * slot
                rule = "the pointer of an entry leads to its own slot"
                report.expect(own, found.key, entry_at, rule)
                report.expect(index > last, found.key, entry_at, "entries ascend")
                found.indexes.append(index)
                last = index

    def _points_at(self, found: CheckedObject, slot: int, pointer: int) -> bool:
        place = place_of(pointer, self._format)
        if place is None or (place.checkpoint, place.part) != (found.number, found.part):
            return False
        if self._format == 2 and place.group != found.meta_blocks + slot >> 4:
            return False
        return place.offset == found.data_at + (slot << self._data_log2)

    # -- blocks -------------------------------------------------------------------------------

    def data_slot(self, pointer: int, index: int) -> tuple[CheckedObject | None, str]:
        """The object of a data block, or the rule that the pointer breaks."""
        place = place_of(pointer, self._format)
        if place is None:
            return None, "a leaf holds block pointers"
        found = self.objects.get((place.checkpoint, place.part))
        if found is None:
            return None, "a pointer leads to an object of the container"
        slot, rest = divmod(place.offset - found.data_at, 1 << self._data_log2)
        if rest or not 0 <= slot < min(found.data_blocks, len(found.indexes)):
            return None, "a pointer leads to a data block"
        if found.indexes[slot] != index:
            return None, "a data block has an entry with its own index"
        if self._format == 2 and place.group != found.meta_blocks + slot >> 4:
            return None, "the low bits of a pointer hold the number of the block in its object"
        return found, ""

    async def node(self, pointer: int) -> tuple[CheckedObject, int, bytes] | str:
        """The object and offset of a map node, and its bytes; or the rule that is broken."""
        place = place_of(pointer, self._format)
        if place is None:
            return "an inner node holds pointers to map nodes"
        found = self.objects.get((place.checkpoint, place.part))
        if found is None:
            return "a pointer leads to an object of the container"
        slot, rest = divmod(place.offset - found.meta_at, 1 << self._meta_log2)
        if rest or not 0 <= slot < found.meta_blocks:
            return "a pointer leads to a map node"
        if self._format == 2 and place.group != slot >> 4:
            return "the low bits of a pointer hold the number of the block in its object"
        size = 1 << self._meta_log2
        per_window = max(_WINDOW // size, 1)
        window, in_window = divmod(slot, per_window)
        data = self._windows.get((found.key, window))
        if data is None:
            start = found.meta_at + window * per_window * size
            end = min(start + per_window * size, found.meta_at + found.meta_blocks * size)
            data = await self._get(found.key, start, end)
            while len(self._windows) >= _WINDOWS_KEPT:
                self._windows.pop(next(iter(self._windows)))
            self._windows[found.key, window] = data
        return found, place.offset, data[in_window * size : (in_window + 1) * size]

    async def data_tail(self, pointer: int, start: int) -> bytes:
        """A data block's bytes from `start` on."""
        place = place_of(pointer, self._format)
        assert place is not None
        found = self.objects[place.checkpoint, place.part]
        end = place.offset + (1 << self._data_log2)
        return await self._get(found.key, place.offset + start, end)

    async def _get(self, key: str, start: int, end: int) -> bytes:
        if start >= end:
            return b""
        try:
            return (await self._store.get(key, start=start, end=end)).data
        except StoreNotFound:
            return b""

    def check_inode(self, found: CheckedObject, report: Report) -> bool:
        """What holds for the inode in a checkpoint's header; returns whether it can be used."""
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
