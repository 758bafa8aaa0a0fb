"""This project's trailer behind a checkpoint's last data block: who wrote it, and checksums.

Other readers of the format ignore these bytes. The page `docs/checkpoint-trailer.md` has the
table of offsets. A trailer counts only where its object's header says that the last data block
ends: content of a file cannot pass for one. A header with a checksum says that there is one: it
can be damaged, but not be taken for absent.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from crc32c import crc32c

from hf_agent.hyperfile.errors import ChecksumError, ReadOnlyLayout

__all__ = [
    "TRAILER_TAIL_BYTES",
    "WRITER_ID_BYTES",
    "Trailer",
    "decode_trailer",
    "encode_trailer",
    "ends_like_a_trailer",
    "trailer_bytes",
]

WRITER_ID_BYTES = 16
TRAILER_TAIL_BYTES = 64
_TAIL = struct.Struct(f"<8sHHI{WRITER_ID_BYTES}sQQIIII")
_MAGIC = b"HFAGTRLR"
_VERSION = 2
_VERSION_BARE = 1
"""The same layout, behind a header without a checksum."""
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


def ends_like_a_trailer(tail: bytes, checkpoint: int) -> bool:
    """Whether an object's last 64 bytes are those of a trailer of that checkpoint.

    For objects whose header is of no use any more; their content could pass for one.
    """
    if len(tail) != TRAILER_TAIL_BYTES:
        return False
    magic, _, _, _, _, _, number, *_ = _TAIL.unpack(tail)
    return bool(magic == _MAGIC and number == checkpoint)


def decode_trailer(
    data: bytes,
    *,
    source: str,
    offset: int,
    checkpoint: int,
    meta_blocks: int,
    data_blocks: int,
    declared: bool,
    refuse_later: bool = False,
) -> Trailer | None:
    """The trailer in `data`, which is all that stands behind an object's last data block.

    Counts and checkpoint number are those of the object's header, and `declared` says whether
    that has a checksum. None when these bytes are something else's. Raises `ChecksumError` when a
    trailer is damaged, or is missing where it is declared; with `refuse_later`, `ReadOnlyLayout`
    for one of a version that is not known, which otherwise counts as none.
    """

    def broken(problem: str = "") -> ChecksumError:
        return ChecksumError("trailer", object=source, offset=offset, problem=problem)

    length = trailer_bytes(meta_blocks, data_blocks)
    if len(data) != length:
        if declared:
            raise broken(f"no trailer of {length} bytes stands where the header declares one")
        return None
    magic, version, _, stated, writer_id, position, number, metas, datas, _, crc = (
        _TAIL.unpack_from(data, length - TRAILER_TAIL_BYTES)
    )
    known = magic == _MAGIC and version in (_VERSION, _VERSION_BARE)
    if not known and not declared:
        return None
    if crc != crc32c(data[: -_CRC.size]):
        raise broken()
    if not known:
        # Undamaged, so it is what some later version writes.
        if refuse_later and magic == _MAGIC:
            raise ReadOnlyLayout(
                f"the checkpoint has a trailer of version {version}, this program knows "
                f"{_VERSION_BARE} and {_VERSION}: append with the program that wrote it, or a "
                f"later one object={source} offset={offset}"
            )
        return None
    if declared != (version == _VERSION):
        raise broken(f"a trailer of version {version} does not go with the header of its object")
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
