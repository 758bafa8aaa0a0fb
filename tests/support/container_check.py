"""Checks every rule of the format on a container of format 3, and reads it.

Written against the format page with `struct` alone: it shares no code with the package, so that
the two cannot be wrong in the same way.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from crc32c import crc32c

ZERO = 0x3FFFFFFF00000000


def fnv(inode: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in inode[:88] + b"\0" * 8 + inode[96:]:
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value or 1


def with_compaction(inode: bytes) -> bytes:
    return inode[:60] + bytes([inode[60] | 8]) + inode[61:]


def without_compaction(inode: bytes) -> bytes:
    return inode[:60] + bytes([inode[60] & ~8]) + inode[61:]


@dataclass
class Segment:
    number: int
    inode: bytes
    base: int
    meta_at: int
    data_at: int
    metas: int
    datas: int
    meta_size: int
    data_size: int
    entries: list[tuple[int, int]]
    trailing: bytes
    raw: bytes = field(repr=False)


def parse_segment(number: int, raw: bytes) -> Segment | None:
    if len(raw) < 208 or raw[:4] != b"SSFH":
        return None
    s_bytes, flags, meta_log, data_log, base = struct.unpack_from("<IHBBQ", raw, 8)
    ino, found, metas, datas = struct.unpack_from("<QQII", raw, 184)
    if flags & 1 or found != number:
        return None
    assert ino == 0
    assert s_bytes == 208 + 16 * datas
    entries = [struct.unpack_from("<QQ", raw, 208 + 16 * k) for k in range(datas)]
    meta_at = -(-s_bytes // 4096) * 4096
    assert not any(raw[s_bytes:meta_at]), "the summary is filled up with zeros"
    data_at = meta_at + (metas << meta_log)
    end = data_at + (datas << data_log)
    assert end <= len(raw) <= 1 << 30
    return Segment(
        *(number, raw[24:184], base, meta_at, data_at, metas, datas),
        *(1 << meta_log, 1 << data_log, entries, raw[end:], raw),
    )


def check_own_object(segment: Segment) -> None:
    """What holds for each object by itself."""
    indexes = [index for index, _ in segment.entries]
    assert indexes == sorted(set(indexes)), "entries ascend"
    for slot, (_, pointer) in enumerate(segment.entries):
        offset = segment.data_at + slot * segment.data_size
        assert pointer == 1 << 62 | segment.number << 32 | offset // 4096 << 14
    assert segment.inode[16:24] == segment.inode[24:32], "a commit sets both times to now"
    seq, cno = struct.unpack_from("<QQ", segment.inode, 88)
    assert seq == cno == segment.number
    assert not segment.inode[60] & 8, "the compaction bit is never published"
    header = segment.raw[:4] + bytes(4) + segment.raw[8:208]
    assert struct.unpack_from("<I", segment.raw, 4)[0] == (crc32c(header) or 1)


def check_trailer(segment: Segment) -> tuple[bytes, int]:
    """Writer id and position, after every checksum."""
    trailing, raw = segment.trailing, segment.raw
    count = 1 + segment.metas + segment.datas
    assert len(trailing) == -(-4 * count // 8) * 8 + 64
    magic, version, flags, length, writer, position, number, metas, datas, zero, crc = (
        struct.unpack("<8sHHI16sQQIIII", trailing[-64:])
    )
    assert (magic, version, flags, zero) == (b"HFAGTRLR", 2, 0, 0)
    assert (length, number) == (len(trailing), segment.number)
    assert (metas, datas) == (segment.metas, segment.datas)
    assert crc == crc32c(trailing[:-4])
    checksums = struct.unpack_from(f"<{count}I", trailing)
    bounds = [0, *range(segment.meta_at, segment.data_at, segment.meta_size)]
    bounds += [*range(segment.data_at, len(raw) - len(trailing) + 1, segment.data_size)]
    pieces = [raw[start:end] for start, end in pairwise(bounds)]
    assert list(checksums) == [crc32c(piece) for piece in pieces]
    return writer, position


class Checker:
    def __init__(self, objects: Mapping[str, bytes], key: str) -> None:
        self.stored = objects[f"{key}/inode"]
        self.segments: dict[int, Segment] = {}
        for name, raw in objects.items():
            if name.startswith(f"{key}/") and name.endswith(".0"):
                number = int(name[len(key) + 1 : -2])
                segment = parse_segment(number, raw)
                if segment is not None:
                    self.segments[number] = segment

    def chain(self) -> list[Segment]:
        """The checkpoints of the stored inode, oldest first."""
        found: list[Segment] = []
        cno = struct.unpack_from("<Q", self.stored, 96)[0]
        if cno == 0:
            return found
        # By fingerprint, in the order of the segments: a long history is looked through once.
        named: dict[int, list[Segment]] = {}
        for each in self.segments.values():
            for fingerprint in {fnv(each.inode), fnv(with_compaction(each.inode))}:
                named.setdefault(fingerprint, []).append(each)
        segment: Segment | None = self.segments[cno]
        assert segment is not None
        assert segment.inode == without_compaction(self.stored), "R/inode is the checkpoint's"
        while segment is not None:
            found.append(segment)
            number, base = segment.number, segment.base
            segment = next((each for each in named.get(base, ()) if each.number < number), None)
        return found[::-1]

    def content(self, inode: bytes) -> bytes:
        """The whole file that an inode describes, every node on the way checked."""
        size, blocks = struct.unpack_from("<QQ", inode, 72)
        block = 1 << inode[45]
        root = inode[104:]
        flags, level, count, user = struct.unpack_from("<BBHI", root)
        assert user & 255 == inode[44] == 3
        entries: list[tuple[int, int]] = []
        if not flags & 1:
            assert (flags, level, count) == (0, 1, 0)
            pointers = struct.unpack_from("<6Q", root, 8)
            entries = [(index, pointer) for index, pointer in enumerate(pointers) if pointer]
        else:
            assert flags == (3 if level == 1 else 1)
            assert 1 <= count <= 3
            keys = struct.unpack_from(f"<{count}Q", root, 8)
            values = struct.unpack_from(f"<{count}Q", root, 32)
            entries = self._walk(level, list(zip(keys, values, strict=True)))
        indexes = [index for index, _ in entries]
        assert indexes == sorted(set(indexes)), "keys ascend over the whole map"
        assert blocks == len(entries) * block // 512
        data = bytearray(-(-size // block) * block)
        for index, pointer in entries:
            if pointer == ZERO:
                continue
            segment, offset = self._place(pointer)
            slot, rest = divmod(offset - segment.data_at, block)
            assert rest == 0 and 0 <= slot < segment.datas
            assert segment.entries[slot][0] == index, "the block was written for this index"
            data[index * block : (index + 1) * block] = segment.raw[offset : offset + block]
        assert len(data) == -(-size // block) * block, "no block lies past the end"
        assert not any(data[size:]), "zeros past the end of the file"
        return bytes(data[:size])

    def _walk(self, level: int, children: list[tuple[int, int]]) -> list[tuple[int, int]]:
        if level == 1:
            return children
        entries: list[tuple[int, int]] = []
        for key, pointer in children:
            segment, offset = self._place(pointer)
            slot, rest = divmod(offset - segment.meta_at, segment.meta_size)
            assert rest == 0 and 0 <= slot < segment.metas
            node = segment.raw[offset : offset + segment.meta_size]
            flags, found, count, user = struct.unpack_from("<BBHI", node)
            assert (flags, found, user) == (2 if level == 2 else 0, level - 1, 0)
            capacity = (segment.meta_size - 8) // 16
            assert 1 <= count <= capacity, "no empty nodes"
            keys = struct.unpack_from(f"<{count}Q", node, 8)
            values = struct.unpack_from(f"<{count}Q", node, 8 + 8 * capacity)
            assert keys[0] == key, "a child's first key is its key in its parent"
            assert list(keys) == sorted(set(keys))
            entries += self._walk(level - 1, list(zip(keys, values, strict=True)))
        return entries

    def _place(self, pointer: int) -> tuple[Segment, int]:
        assert pointer >> 62 == 1
        assert pointer & 0x3FFF == 0, "all of it in part 0"
        segment = self.segments[pointer >> 32 & 0x3FFFFFFF]
        return segment, (pointer >> 14 & 0x3FFFF) * 4096


def check_container(objects: Mapping[str, bytes], key: str, *, created: bytes) -> dict[int, bytes]:
    """Check a container that only this package wrote; its content at every checkpoint.

    `created` is the inode it was created with. The last item is the content now.
    """
    checker = Checker(objects, key)
    chain = checker.chain()
    if not chain:
        assert without_compaction(checker.stored) == created
        return {0: b""}
    assert chain[0].base in (fnv(created), fnv(with_compaction(created)))
    for segment in chain:
        check_own_object(segment)
        check_trailer(segment)
        check_levels_descend(segment)
    return {segment.number: checker.content(segment.inode) for segment in chain}


def check_levels_descend(segment: Segment) -> None:
    """Meta blocks stand with the higher levels first."""
    levels = [
        segment.raw[at + 1] for at in range(segment.meta_at, segment.data_at, segment.meta_size)
    ]
    assert levels == sorted(levels, reverse=True)
