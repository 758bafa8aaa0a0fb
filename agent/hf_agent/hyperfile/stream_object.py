"""Stream objects (format 4): data and meta blocks first, then entries, the header last."""

from __future__ import annotations

import struct
import zlib

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.inode import INODE_BYTES
from hf_agent.hyperfile.meta_config import MAX_BLOCK_SHIFT, MIN_BLOCK_SHIFT
from hf_agent.hyperfile.segment import ENTRY, ObjectHeader

__all__ = [
    "STREAM_HEADER_BYTES",
    "decode_stream_header",
    "encode_stream_header",
    "is_stream_header",
]

STREAM_HEADER_BYTES = 256
_MAGIC = b"HFST"
_VERSION = 1
_HEADER = struct.Struct(f"<4sHHQHBBII4xQ{INODE_BYTES}s52xI")
_CRC_AT = 252


def is_stream_header(tail: bytes) -> bool:
    """Whether an object's last 256 bytes begin like a stream object's header."""
    return len(tail) == STREAM_HEADER_BYTES and tail.startswith(_MAGIC)


def decode_stream_header(
    tail: bytes, *, source: str, object_size: int, checkpoint: int, part: int
) -> ObjectHeader:
    """The header in the last 256 bytes of an object of `object_size` bytes.

    `checkpoint` and `part` are what the object's key says. Raises `FormatError`.
    """
    start = object_size - STREAM_HEADER_BYTES

    def broken(rule: str, offset: int) -> FormatError:
        return FormatError(rule, object=source, offset=max(start, 0) + offset)

    if not is_stream_header(tail):
        raise broken("the object does not end with a stream header", 0)
    (_, version, flags, number, in_part, meta_shift, data_shift, datas, metas, base, inode, crc) = (
        _HEADER.unpack(tail)
    )
    if crc != zlib.crc32(tail[:_CRC_AT]):
        raise broken("the checksum of a stream header does not match", _CRC_AT)
    if version != _VERSION:
        raise broken(f"stream objects of version {version} are not known", 4)
    if (number, in_part) != (checkpoint, part):
        raise broken(f"a stream header names another object, {number}.{in_part}", 8)
    for shift, offset in ((meta_shift, 18), (data_shift, 19)):
        if not MIN_BLOCK_SHIFT <= shift <= MAX_BLOCK_SHIFT:
            raise broken(f"there is no block size 2^{shift}", offset)
    meta_offset = datas << data_shift
    entries_offset = meta_offset + (metas << meta_shift)
    if entries_offset + ENTRY.size * datas + STREAM_HEADER_BYTES != object_size:
        raise broken(f"the counts of a stream header do not add up to {object_size} bytes", 20)
    return ObjectHeader(
        checkpoint=number,
        part=in_part,
        flags=flags,
        meta_shift=meta_shift,
        data_shift=data_shift,
        meta_blocks=metas,
        data_blocks=datas,
        base=base,
        inode=inode,
        meta_offset=meta_offset,
        data_offset=0,
    )


def encode_stream_header(
    *,
    checkpoint: int,
    part: int,
    flags: int,
    meta_shift: int,
    data_shift: int,
    meta_blocks: int,
    data_blocks: int,
    base: int,
    inode: bytes,
) -> bytes:
    """The 256 bytes at the end of a stream object."""
    header = _HEADER.pack(
        *(_MAGIC, _VERSION, flags, checkpoint, part, meta_shift, data_shift),
        *(data_blocks, meta_blocks, base, inode, 0),
    )
    return header[:_CRC_AT] + struct.pack("<I", zlib.crc32(header[:_CRC_AT]))
