"""The inode: 160 bytes that describe a whole file; current layout, and that of the 0.2 crate."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.nodes import DIRECT_ROOT_BYTES_EMPTY, pack_user_data

__all__ = [
    "FLAG_COMPACTION",
    "FLAG_INLINE",
    "FLAG_KEEP_OPEN",
    "FLAG_MOVED",
    "INODE_BYTES",
    "MAX_CHECKPOINT",
    "Inode",
    "InodeLayout",
    "decode_inode",
    "empty_inode",
    "with_flags",
]

INODE_BYTES = 160
MAX_CHECKPOINT = (1 << 30) - 1
"""Checkpoint numbers have 30 bits in a block pointer."""

FLAG_INLINE = 0x1
FLAG_KEEP_OPEN = 0x2
FLAG_MOVED = 0x4
"""The last checkpoint only moved blocks."""
FLAG_COMPACTION = 0x8
"""A compactor's result is attached; stands in a stored inode only together with its metadata."""

_CURRENT = struct.Struct("<4Q3II2III5Q56s")
_LEGACY = struct.Struct("<6Q3II2III3Q56s")
_META_CONFIG_CURRENT = 44
_META_CONFIG_LEGACY = 60
_FLAGS_AT = 60
_SIZE_AT = 72
_INLINE_AT = 80
_INLINE_MAX = INODE_BYTES - _INLINE_AT
_ROOT_AT = 104
_U32 = struct.Struct("<I")
_NANOSECONDS = 1_000_000_000


class InodeLayout(Enum):
    """Which crate's order of fields."""

    CURRENT = "current"
    LEGACY = "0.2"


@dataclass(frozen=True, slots=True)
class Inode:
    """Every field of an inode. Times are Unix nanoseconds, sizes are bytes."""

    meta: MetaConfig
    root: bytes
    """The 56 bytes of the block map's root; of an inline inode, what stands there."""
    size: int
    blocks: int
    """Entries of the block map × data block size / 512; 0 for an inline inode."""
    last_seq: int
    last_cno: int
    ino: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    mtime_ns: int = 0
    uid: int = 1000
    gid: int = 1000
    mode: int = 0o100644
    flags: int = 0
    nlink: int = 1
    layout: InodeLayout = InodeLayout.CURRENT
    inline: bytes | None = None
    """The whole content of an inline file, else None."""

    def encode(self) -> bytes:
        """The 160 bytes in the current layout. Inline and 0.2 inodes are never written."""
        if self.inline is not None or self.layout is not InodeLayout.CURRENT:
            raise ValueError("only inodes of the current layout with a block map are written")
        atime, atime_ns = divmod(self.atime_ns, _NANOSECONDS)
        ctime, ctime_ns = divmod(self.ctime_ns, _NANOSECONDS)
        mtime, mtime_ns = divmod(self.mtime_ns, _NANOSECONDS)
        return _CURRENT.pack(
            self.ino,
            *(atime, ctime, mtime, atime_ns, ctime_ns, mtime_ns),
            *(self.meta.pack(), self.uid, self.gid, self.mode, self.flags),
            *(self.nlink, self.size, self.blocks, self.last_seq, self.last_cno, self.root),
        )


def decode_inode(data: bytes, *, source: str, offset: int = 0) -> Inode:
    """An inode from its 160 bytes; `source` and `offset` say where they stand, for errors.

    Raises `FormatError`.
    """
    if len(data) != INODE_BYTES:
        rule = f"an inode has exactly {INODE_BYTES} bytes, not {len(data)}"
        raise FormatError(rule, object=source, offset=offset)
    current = MetaConfig.unpack(_U32.unpack_from(data, _META_CONFIG_CURRENT)[0])
    if current is not None:
        return _decode_current(data, current, source, offset)
    legacy = MetaConfig.unpack(_U32.unpack_from(data, _META_CONFIG_LEGACY)[0])
    if legacy is not None:
        return _decode_legacy(data, legacy, source, offset)
    later = MetaConfig.unknown_format(_U32.unpack_from(data, _META_CONFIG_CURRENT)[0])
    if later is not None:
        known = f"{min(PointerFormat)} to {max(PointerFormat)}"
        raise FormatError(
            f"an inode has pointer format {later}, this program reads {known}: use the program "
            "that wrote it, unless the object is damaged",
            object=source,
            offset=offset + _META_CONFIG_CURRENT,
        )
    raise FormatError(
        "the meta config of an inode is not valid in either layout",
        object=source,
        offset=offset + _META_CONFIG_CURRENT,
    )


def _decode_current(data: bytes, meta: MetaConfig, source: str, offset: int) -> Inode:
    (ino, atime, ctime, mtime, atime_ns, ctime_ns, mtime_ns, _, uid, gid, mode, flags, nlink) = (
        fields := _CURRENT.unpack(data)
    )[:13]
    size, blocks, last_seq, last_cno, root = fields[13:]
    _check_times((atime_ns, ctime_ns, mtime_ns), source, offset + 32)
    inline = None
    if flags & FLAG_INLINE:
        if size > _INLINE_MAX:
            rule = f"an inline file has at most {_INLINE_MAX} bytes, not {size}"
            raise FormatError(rule, object=source, offset=offset + _SIZE_AT)
        inline = data[_INLINE_AT : _INLINE_AT + size]
        blocks = last_seq = last_cno = 0
    else:
        _check_numbers(last_seq, last_cno, source, offset)
        _check_lengths(size, blocks, source, offset + _SIZE_AT)
        if root[4] != meta.pointer_format:
            raise FormatError(
                "meta config and root of the block map name different pointer formats",
                object=source,
                offset=offset + _ROOT_AT + 4,
            )
    return Inode(
        meta=meta,
        root=root,
        size=size,
        blocks=blocks,
        last_seq=last_seq,
        last_cno=last_cno,
        ino=ino,
        atime_ns=atime * _NANOSECONDS + atime_ns,
        ctime_ns=ctime * _NANOSECONDS + ctime_ns,
        mtime_ns=mtime * _NANOSECONDS + mtime_ns,
        uid=uid,
        gid=gid,
        mode=mode,
        flags=flags,
        nlink=nlink,
        inline=inline,
    )


def _decode_legacy(data: bytes, meta: MetaConfig, source: str, offset: int) -> Inode:
    (ino, blocks, size, atime, ctime, mtime, atime_ns, ctime_ns, mtime_ns, _, uid, gid, mode) = (
        fields := _LEGACY.unpack(data)
    )[:13]
    flags, nlink, last_seq, last_cno, root = fields[13:]
    if flags & FLAG_INLINE:
        rule = "an inode of the 0.2 layout is never inline"
        raise FormatError(rule, object=source, offset=offset + 76)
    _check_times((atime_ns, ctime_ns, mtime_ns), source, offset + 48)
    _check_numbers(last_seq, last_cno, source, offset)
    _check_lengths(size, blocks, source, offset + 8)
    if not 1 <= root[4] <= 4:
        rule = f"there is no pointer format {root[4]}"
        raise FormatError(rule, object=source, offset=offset + _ROOT_AT + 4)
    return Inode(
        # That crate's meta config may say another format than it used: the root decides.
        meta=MetaConfig(meta.meta_shift, meta.data_shift, PointerFormat(root[4])),
        root=root,
        size=size,
        blocks=blocks,
        last_seq=last_seq,
        last_cno=last_cno,
        ino=ino,
        atime_ns=atime * _NANOSECONDS + atime_ns,
        ctime_ns=ctime * _NANOSECONDS + ctime_ns,
        mtime_ns=mtime * _NANOSECONDS + mtime_ns,
        uid=uid,
        gid=gid,
        mode=mode,
        flags=flags,
        nlink=nlink,
        layout=InodeLayout.LEGACY,
    )


def _check_numbers(last_seq: int, last_cno: int, source: str, offset: int) -> None:
    if last_seq > MAX_CHECKPOINT:
        rule = f"last_seq is at most {MAX_CHECKPOINT}, not {last_seq}"
        raise FormatError(rule, object=source, offset=offset + 88)
    if last_cno > last_seq:
        rule = f"last_cno {last_cno} is over last_seq {last_seq}"
        raise FormatError(rule, object=source, offset=offset + 96)


def _check_lengths(size: int, blocks: int, source: str, offset: int) -> None:
    # File offsets are signed 64-bit numbers wherever such a file is used.
    if size >> 63 or blocks >> 63:
        rule = f"size {size} or blocks {blocks} is over 2^63-1"
        raise FormatError(rule, object=source, offset=offset)


def _check_times(nanoseconds: tuple[int, int, int], source: str, offset: int) -> None:
    if max(nanoseconds) >= _NANOSECONDS:
        rule = f"a time has {max(nanoseconds)} nanoseconds in a second"
        raise FormatError(rule, object=source, offset=offset)


def empty_inode(meta: MetaConfig, now_ns: int, *, uid: int, gid: int, mode: int) -> Inode:
    """The inode of a new container: no content, an empty direct root."""
    return Inode(
        meta=meta,
        root=pack_user_data(DIRECT_ROOT_BYTES_EMPTY, meta.pointer_format),
        size=0,
        blocks=0,
        last_seq=0,
        last_cno=0,
        atime_ns=now_ns,
        ctime_ns=now_ns,
        mtime_ns=now_ns,
        uid=uid,
        gid=gid,
        mode=mode,
    )


def with_flags(inode: bytes, *, set: int = 0, clear: int = 0) -> bytes:
    """An inode's bytes (current layout) with flag bits set or cleared and nothing else changed."""
    flags = _U32.unpack_from(inode, _FLAGS_AT)[0] & ~clear | set
    return inode[:_FLAGS_AT] + _U32.pack(flags) + inode[_FLAGS_AT + 4 :]
