"""The index by stream at the end of a sealed file: directory, entries, footer.

The directory (which streams, which positions) of each sealed file stays in memory, as arrays: 36
bytes for each stream and file. The entries (where each record lies) are read when they are needed.
Tables: `docs/wal-format.md`.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.wal.extents import FileExtents, find_sorted
from hf_agent.wal.record import HEADER_BYTES

__all__ = [
    "FOOTER_BYTES",
    "Directory",
    "Entries",
    "Footer",
    "StreamRange",
    "build_index",
    "index_bytes",
    "parse_entries",
]

FOOTER_BYTES = 64
DIRECTORY_ENTRY_BYTES = 40
ENTRY_BYTES = 8

_FOOTER = struct.Struct("<8sQQQIIQQI")
_MAGIC = b"HFWALEND"
_CRC = struct.Struct("<I")
_ENTRY = struct.Struct("<IIQQQII")


@dataclass(frozen=True, slots=True)
class Footer:
    """The last 64 bytes of a sealed file."""

    sequence: int
    index_offset: int
    """Where the INDEX record begins."""
    index_length: int
    """Payload bytes of the INDEX record."""
    streams: int
    """Entries of the directory."""
    directory_crc: int
    first_time_ns: int
    """Time of the first DATA record; 0 when there is none."""
    batch: int
    """Batch number of the INDEX record."""

    def pack(self, seed: int) -> bytes:
        """The 64 bytes, bound to the file with this `seed`."""
        body = _FOOTER.pack(
            *(_MAGIC, self.sequence, self.index_offset, self.index_length),
            *(self.streams, self.directory_crc, self.first_time_ns, self.batch, 0),
        )
        return body + _CRC.pack(crc32c(body, seed))

    @classmethod
    def unpack(cls, data: bytes, seed: int) -> Footer | None:
        """The footer in `data` (64 bytes) if it belongs to this file, else None."""
        magic, *fields, _ = _FOOTER.unpack_from(data)
        checksum = _CRC.unpack_from(data, _FOOTER.size)[0]
        if magic != _MAGIC or checksum != crc32c(data[: _FOOTER.size], seed):
            return None
        return cls(*fields)


class StreamRange(NamedTuple):
    """What one sealed file holds of one stream."""

    first: int
    end: int
    records: int
    offset: int
    """Where its entries begin in the INDEX payload."""
    crc: int
    """CRC-32C of its entries."""


class Directory:
    """Which streams a sealed file holds; sorted by stream number."""

    __slots__ = ("counts", "crcs", "ends", "firsts", "numbers", "offsets")

    def __init__(self) -> None:
        self.numbers = array("I")
        self.counts = array("I")
        self.firsts = array("Q")
        self.ends = array("Q")
        self.offsets = array("Q")
        self.crcs = array("I")

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, number: int, where: StreamRange) -> None:
        """Add the stream with the next higher number."""
        self.numbers.append(number)
        self.counts.append(where.records)
        self.firsts.append(where.first)
        self.ends.append(where.end)
        self.offsets.append(where.offset)
        self.crcs.append(where.crc)

    def find(self, number: int) -> StreamRange | None:
        """What the file holds of a stream, or None."""
        at = find_sorted(self.numbers, number)
        if at < 0:
            return None
        return StreamRange(
            self.firsts[at], self.ends[at], self.counts[at], self.offsets[at], self.crcs[at]
        )

    def pack(self) -> bytes:
        """The directory as it stands at the start of the INDEX payload."""
        columns = (self.numbers, self.counts, self.firsts, self.ends, self.offsets, self.crcs)
        return b"".join(_ENTRY.pack(*row, 0) for row in zip(*columns, strict=True))

    @classmethod
    def unpack(cls, data: bytes) -> Directory | None:
        """Parse a directory whose checksum was right; None when it contradicts itself."""
        directory = cls()
        last = -1
        for number, count, first, end, offset, crc, _ in _ENTRY.iter_unpack(data):
            if number <= last or count == 0 or end <= first:
                return None
            directory.add(number, StreamRange(first, end, count, offset, crc))
            last = number
        return directory

    @property
    def records(self) -> int:
        """DATA records in the file."""
        return sum(self.counts)

    @property
    def bytes(self) -> int:
        """Payload bytes of the DATA records in the file."""
        return sum(self.ends) - sum(self.firsts)


class Entries(NamedTuple):
    """One stream's records in one sealed file; the same columns as `StreamExtents`."""

    offsets: Sequence[int]
    ends: Sequence[int]


def index_bytes(streams: int, records: int) -> int:
    """Size of the INDEX record for that many streams and DATA records."""
    return HEADER_BYTES + DIRECTORY_ENTRY_BYTES * streams + ENTRY_BYTES * records


def build_index(extents: FileExtents) -> tuple[Directory, list[bytes]]:
    """The directory, and the INDEX payload in parts (the packed directory first)."""
    directory = Directory()
    blocks: list[bytes] = []
    offset = DIRECTORY_ENTRY_BYTES * len(extents.streams)
    for number, stream in sorted(extents.streams.items()):
        block = _little(stream.offsets) + _little(stream.ends)
        count = len(stream.ends)
        directory.add(number, StreamRange(stream.first, stream.end, count, offset, crc32c(block)))
        blocks.append(block)
        offset += len(block)
    return directory, [directory.pack(), *blocks]


def parse_entries(block: bytes, where: StreamRange) -> Entries | None:
    """The entries in `block` if it is what `where` says, else None."""
    if len(block) != ENTRY_BYTES * where.records or crc32c(block) != where.crc:
        return None
    half = len(block) // 2
    entries = Entries(_from_little(block[:half]), _from_little(block[half:]))
    return entries if entries.ends[-1] == where.end - where.first else None


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column.tobytes()


def _from_little(data: bytes) -> array[int]:
    column = array("I")
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column
