"""Fields as the format page gives them: inodes, pointers, fingerprints."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["ZERO_BLOCK", "RawInode", "RawPlace", "fnv1a", "inode_names", "place_of", "read_inode"]

ZERO_BLOCK = 0x3FFF_FFFF_0000_0000


@dataclass(frozen=True, slots=True)
class RawInode:
    """The fields of an inode that rules speak of."""

    format: int
    meta_log2: int
    data_log2: int
    flags: int
    size: int
    blocks: int
    last_seq: int
    last_cno: int
    root: bytes
    old_layout: bool

    @property
    def inline(self) -> bool:
        """Whether the content stands in the inode."""
        return bool(self.flags & 1)


@dataclass(frozen=True, slots=True)
class RawPlace:
    """What a pointer says."""

    checkpoint: int
    part: int
    offset: int
    group: int
    """Format 2: the block's number in its object, without its last four bits."""


def _meta_config(data: bytes, at: int) -> tuple[int, int, int] | None:
    pointer_format, data_log2, meta_log2, root = data[at : at + 4]
    valid = root == 7 and 1 <= pointer_format <= 4
    valid = valid and all(12 <= log2 <= 30 for log2 in (data_log2, meta_log2))
    return (pointer_format, data_log2, meta_log2) if valid else None


def read_inode(data: bytes) -> RawInode | str:
    """An inode's fields, or the rule that it breaks."""
    if len(data) != 160:
        return f"an inode has 160 bytes, not {len(data)}"
    root = data[104:160]
    if (config := _meta_config(data, 44)) is not None:
        flags, _, size, blocks, last_seq, last_cno = struct.unpack_from("<IQQQQQ", data, 60)
        nanoseconds = struct.unpack_from("<III", data, 32)
        old_layout = False
        pointer_format = config[0]
        if not flags & 1 and root[4] != pointer_format:
            return "meta config and user data of the root name the same pointer format"
    elif (config := _meta_config(data, 60)) is not None:
        blocks, size = struct.unpack_from("<QQ", data, 8)
        nanoseconds = struct.unpack_from("<III", data, 48)
        flags, _, last_seq, last_cno = struct.unpack_from("<IQQQ", data, 76)
        old_layout = True
        pointer_format = root[4]
        if not 1 <= pointer_format <= 4:
            return "the user data of the root names a pointer format"
    else:
        return "a meta config stands at 44, or at 60 in the old layout"
    if max(nanoseconds) >= 1_000_000_000:
        return "nanoseconds of a time are below a second"
    if flags & 1:
        if size > 80:
            return "an inline file has at most 80 bytes"
        blocks = last_seq = last_cno = 0
    if last_seq > (1 << 30) - 1:
        return "last_seq is at most 2^30-1"
    if last_cno > last_seq:
        return "last_cno is not over last_seq"
    return RawInode(
        format=pointer_format,
        meta_log2=config[2],
        data_log2=config[1],
        flags=flags,
        size=size,
        blocks=blocks,
        last_seq=last_seq,
        last_cno=last_cno,
        root=root,
        old_layout=old_layout,
    )


def place_of(pointer: int, pointer_format: int) -> RawPlace | None:
    """Where a pointer leads to; None when it names no place."""
    number = pointer >> 32 & 0x3FFF_FFFF
    if pointer >> 62 != 1 or number == 0:
        return None
    low = pointer & 0xFFFF_FFFF
    if pointer_format == 1:
        return RawPlace(number, 0, low, 0)
    offset, rest = (low >> 14) * 4096, low & 0x3FFF
    if pointer_format == 2:
        return RawPlace(number, 0, offset, rest)
    return RawPlace(number, rest, offset, 0)


def fnv1a(inode: bytes) -> int:
    """The fingerprint of an inode's 160 bytes."""
    value = 0xCBF2_9CE4_8422_2325
    for byte in inode[:88] + bytes(8) + inode[96:]:
        value = ((value ^ byte) * 0x100_0000_01B3) % (1 << 64)
    return value or 1


def inode_names(inode: bytes) -> tuple[int, int]:
    """The fingerprints that a checkpoint built on this inode may carry: it may have had a
    compaction attached (bit 3 of the flags at 60) or not."""
    without = inode[:60] + bytes([inode[60] & ~8 & 255]) + inode[61:]
    attached = inode[:60] + bytes([inode[60] | 8]) + inode[61:]
    return fnv1a(without), fnv1a(attached)
