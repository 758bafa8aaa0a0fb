"""This project's trailer behind a checkpoint's last data block: who wrote it, and checksums.

Other readers of the format ignore these bytes. The page `docs/checkpoint-trailer.md` has the
table of offsets. A trailer counts only where its object's header says that the last data block
ends: content of a file cannot pass for one.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from crc32c import crc32c

from hf_agent.hyperfile.errors import FormatError

__all__ = [
    "TRAILER_TAIL_BYTES",
    "WRITER_ID_BYTES",
    "Trailer",
    "decode_trailer",
    "encode_trailer",
    "trailer_bytes",
]

WRITER_ID_BYTES = 16
TRAILER_TAIL_BYTES = 64
_TAIL = struct.Struct(f"<8sHHI{WRITER_ID_BYTES}sQQIIII")
_MAGIC = b"HFAGTRLR"
_VERSION = 1
_CRC = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Trailer:
    """What a checkpoint says of its writer and its blocks."""

    writer_id: bytes
    """16 bytes: the id of the log that the data came from."""
    position: int
    """Bytes of the writer's stream that the container has with this checkpoint."""
    checkpoint: int
    summary_crc: int
    """CRC-32C of header, entries and the zeros that align them."""
    meta_crcs: Sequence[int]
    """CRC-32C of every meta block of the object, in order."""
    data_crcs: Sequence[int]
    """CRC-32C of every data block of the object, in order."""


def trailer_bytes(meta_blocks: int, data_blocks: int) -> int:
    """Length of the trailer of an object with that many blocks; a multiple of 8."""
    checksums = _CRC.size * (1 + meta_blocks + data_blocks)
    return (checksums + 7 & -8) + TRAILER_TAIL_BYTES


def encode_trailer(trailer: Trailer) -> bytes:
    """The bytes that stand right behind the last data block."""
    if len(trailer.writer_id) != WRITER_ID_BYTES:
        raise ValueError(f"a writer id has {WRITER_ID_BYTES} bytes, not {len(trailer.writer_id)}")
    checksums = array("I", (trailer.summary_crc, *trailer.meta_crcs, *trailer.data_crcs))
    _to_little_endian(checksums)
    length = trailer_bytes(len(trailer.meta_crcs), len(trailer.data_crcs))
    body = checksums.tobytes().ljust(length - TRAILER_TAIL_BYTES, b"\0")
    tail = _TAIL.pack(
        *(_MAGIC, _VERSION, 0, length, trailer.writer_id, trailer.position, trailer.checkpoint),
        *(len(trailer.meta_crcs), len(trailer.data_crcs), 0, 0),
    )
    unsigned = body + tail[: -_CRC.size]
    return unsigned + _CRC.pack(crc32c(unsigned))


def decode_trailer(
    data: bytes, *, source: str, offset: int, checkpoint: int, meta_blocks: int, data_blocks: int
) -> Trailer | None:
    """The trailer in `data`, which is all that stands behind an object's last data block.

    The counts and the checkpoint number are those of the object's header. None when these bytes
    are something else's; a trailer of this project that is damaged raises `FormatError`.
    """
    length = trailer_bytes(meta_blocks, data_blocks)
    if len(data) != length:
        return None
    magic, version, _, stated, writer_id, position, number, metas, datas, _, crc = (
        _TAIL.unpack_from(data, length - TRAILER_TAIL_BYTES)
    )
    if magic != _MAGIC or version != _VERSION:
        return None

    def broken(rule: str) -> FormatError:
        return FormatError(rule, object=source, offset=offset)

    if crc != crc32c(data[: -_CRC.size]):
        raise broken("the checksum of a trailer does not match")
    if (stated, number, metas, datas) != (length, checkpoint, meta_blocks, data_blocks):
        raise broken(f"a trailer was written for another object, of checkpoint {number}")
    checksums = array("I", data[: _CRC.size * (1 + metas + datas)])
    _to_little_endian(checksums)
    return Trailer(
        writer_id=writer_id,
        position=position,
        checkpoint=number,
        summary_crc=checksums[0],
        meta_crcs=checksums[1 : 1 + metas],
        data_crcs=checksums[1 + metas :],
    )


def _to_little_endian(values: array[int]) -> None:
    if sys.byteorder == "big":
        values.byteswap()
