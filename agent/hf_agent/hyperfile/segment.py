"""Segment objects (formats 1, 2, 3): header and entries first, then meta and data blocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.inode import INODE_BYTES
from hf_agent.hyperfile.meta_config import MAX_BLOCK_SHIFT, MIN_BLOCK_SHIFT, align

__all__ = [
    "ENTRY",
    "FLAG_COMPACTOR",
    "FLAG_PARTIAL",
    "SEGMENT_HEADER_BYTES",
    "ObjectHeader",
    "decode_segment_header",
    "encode_segment_header",
    "summary_bytes",
]

SEGMENT_HEADER_BYTES = 208
FLAG_PARTIAL = 0x1
"""Not the checkpoint itself: data (or abandoned work) only."""
FLAG_COMPACTOR = 0x2
"""Written by a compactor."""

ENTRY = struct.Struct("<QQ")
"""One data block of an object: its index in the file, its pointer."""

_MAGIC = 0x48465353
_HEADER = struct.Struct(f"<IIIHBBQ{INODE_BYTES}sQQII")


@dataclass(frozen=True, slots=True)
class ObjectHeader:
    """What an object says of itself, in a segment's or a stream object's header."""

    checkpoint: int
    part: int | None
    """Only stream objects name their part."""
    flags: int
    meta_shift: int
    data_shift: int
    meta_blocks: int
    data_blocks: int
    base: int
    """Fingerprint of the stored inode it was built on; 0: not recorded."""
    inode: bytes
    """The inode as of this checkpoint, 160 bytes."""
    meta_offset: int
    """Where the meta blocks begin in the object, in bytes."""
    data_offset: int

    @property
    def partial(self) -> bool:
        """Whether this object is not the checkpoint itself."""
        return bool(self.flags & FLAG_PARTIAL)

    @property
    def meta_end(self) -> int:
        """The byte behind the last meta block."""
        return self.meta_offset + (self.meta_blocks << self.meta_shift)

    @property
    def data_end(self) -> int:
        """The byte behind the last data block."""
        return self.data_offset + (self.data_blocks << self.data_shift)


def summary_bytes(data_blocks: int) -> int:
    """Bytes of header and entries, without the zeros that align them."""
    return SEGMENT_HEADER_BYTES + ENTRY.size * data_blocks


def decode_segment_header(data: bytes, *, source: str, object_size: int) -> ObjectHeader:
    """The header at the start of an object of `object_size` bytes. Raises `FormatError`."""

    def broken(rule: str, offset: int) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    if len(data) < SEGMENT_HEADER_BYTES:
        raise broken(f"a segment header has {SEGMENT_HEADER_BYTES} bytes, not {len(data)}", 0)
    (magic, _, s_bytes, flags, meta_shift, data_shift, base, inode, _, number, metas, datas) = (
        _HEADER.unpack_from(data)
    )
    if magic != _MAGIC:
        raise broken("the object does not begin with a segment header", 0)
    for shift, offset in ((meta_shift, 14), (data_shift, 15)):
        if not MIN_BLOCK_SHIFT <= shift <= MAX_BLOCK_SHIFT:
            raise broken(f"there is no block size 2^{shift}", offset)
    if s_bytes != summary_bytes(datas):
        raise broken(f"header and entries of {datas} data blocks do not have {s_bytes} bytes", 8)
    meta_offset = align(s_bytes)
    header = ObjectHeader(
        checkpoint=number,
        part=None,
        flags=flags,
        meta_shift=meta_shift,
        data_shift=data_shift,
        meta_blocks=metas,
        data_blocks=datas,
        base=base,
        inode=inode,
        meta_offset=meta_offset,
        data_offset=meta_offset + (metas << meta_shift),
    )
    if header.data_end > object_size:
        rule = f"the object has {object_size} bytes, fewer than the {header.data_end} it names"
        raise broken(rule, 200)
    return header


def encode_segment_header(
    *,
    checkpoint: int,
    flags: int,
    meta_shift: int,
    data_shift: int,
    meta_blocks: int,
    data_blocks: int,
    base: int,
    inode: bytes,
) -> bytes:
    """The 208 bytes at the start of a segment object."""
    return _HEADER.pack(
        *(_MAGIC, 0, summary_bytes(data_blocks), flags, meta_shift, data_shift),
        *(base, inode, 0, checkpoint, meta_blocks, data_blocks),
    )
