"""Segment objects (formats 1, 2, 3): header and entries first, then meta and data blocks.

The header's checksum field is zero in what the crate writes, and never read by it. This project
puts a checksum of the header there, which also says that a trailer stands at the object's end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from crc32c import crc32c

from hf_agent.hyperfile.errors import ChecksumError, FormatError
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
_CHECKSUM = struct.Struct("<I")
_CHECKSUM_AT = 4
_CRC_OF_START = crc32c(struct.pack("<II", _MAGIC, 0))
"""Of the bytes up to the checksum, and of the checksum as zero."""
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
    has_checksum: bool = False
    """Whether it carries its own checksum, and so declares a trailer (segments only)."""

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


def decode_segment_header(
    data: bytes, *, source: str, object_size: int, checked: bool = True
) -> ObjectHeader:
    """The header at the start of an object of `object_size` bytes.

    Raises `FormatError`; with `checked`, `ChecksumError` where it carries a checksum that does
    not match.
    """

    def broken(rule: str, offset: int) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    if len(data) < SEGMENT_HEADER_BYTES:
        raise broken(f"a segment header has {SEGMENT_HEADER_BYTES} bytes, not {len(data)}", 0)
    (
        magic,
        checksum,
        s_bytes,
        flags,
        meta_shift,
        data_shift,
        base,
        inode,
        _,
        number,
        metas,
        datas,
    ) = _HEADER.unpack_from(data)
    # Of a header with the right magic: so a damaged magic does not make it somebody else's object.
    signed = checksum != 0 and checksum == _header_checksum(data[:SEGMENT_HEADER_BYTES])
    if magic != _MAGIC and not signed:
        raise broken("the object does not begin with a segment header", 0)
    if checked and checksum and not (signed and magic == _MAGIC):
        raise ChecksumError("header", object=source, offset=0)
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
        has_checksum=checksum != 0,
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
    """The 208 bytes at the start of a segment object that ends with a trailer."""
    header = bytearray(
        _HEADER.pack(
            *(_MAGIC, 0, summary_bytes(data_blocks), flags, meta_shift, data_shift),
            *(base, inode, 0, checkpoint, meta_blocks, data_blocks),
        )
    )
    _CHECKSUM.pack_into(header, _CHECKSUM_AT, _header_checksum(header))
    return bytes(header)


def _header_checksum(header: bytes | bytearray) -> int:
    """CRC-32C of the 208 bytes, the checksum itself taken as zero; never 0, which means none."""
    return crc32c(header[_CHECKSUM_AT + _CHECKSUM.size :], _CRC_OF_START) or 1
