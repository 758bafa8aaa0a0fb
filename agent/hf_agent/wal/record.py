"""One record: its header, the checksum that binds it to its place, its types.

The table of the 48 bytes is in `docs/wal-format.md`. A header is only valid in the file and at
the offset for which it was written, so nothing stale and nothing inside a payload looks live.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.wal.disk import Buffer

__all__ = [
    "ALIGNMENT",
    "CHECKED",
    "COMMIT",
    "DATA",
    "END",
    "FILL",
    "HEADER_BYTES",
    "INDEX",
    "MAGIC",
    "MARKS",
    "NOTE",
    "PLACED_HEADER",
    "SNAPSHOT",
    "STREAM",
    "TYPE_NAMES",
    "Header",
    "file_seed",
    "padded",
    "unpack_header",
]

MAGIC = b"\xf1Rec"
HEADER_BYTES = 48
ALIGNMENT = 8
END = 1
"""Flag of the last record of a batch."""
FILL = 2
"""Flag of DATA that nobody appended: zeros that a repair put in the place of lost bytes."""

_BODY = struct.Struct("<IIBBHIQQQ")
CHECKED = struct.Struct("<4sI")
"""A header's first 8 bytes: magic and checksum."""
PLACED_HEADER = struct.Struct("<QIIBBHIQQQ")
"""Offset in the file, then a header's fields from byte 8 on: 48 bytes, what its checksum covers."""
_PLACE = struct.Struct("<Q")


DATA = 1
STREAM = 2
NOTE = 3
MARKS = 4
SNAPSHOT = 5
INDEX = 6
COMMIT = 7

TYPE_NAMES = {
    DATA: "data",
    STREAM: "stream",
    NOTE: "note",
    MARKS: "marks",
    SNAPSHOT: "snapshot",
    INDEX: "index",
    COMMIT: "commit",
}
"""What a record's payload is, by its type."""


class Header(NamedTuple):
    """A record header that passed its checksum."""

    payload_crc: int
    length: int
    """Payload bytes, without padding."""
    type: int
    flags: int
    reserved: int
    stream: int
    """Stream number; 0 where the record is of no stream."""
    position: int
    """DATA: stream position of the first payload byte. Otherwise 0."""
    batch: int
    time_ns: int

    @property
    def total(self) -> int:
        """Bytes of the whole record in the file."""
        return HEADER_BYTES + padded(self.length)


def padded(length: int) -> int:
    """`length` rounded up to the alignment of records."""
    return length + (-length & (ALIGNMENT - 1))


def file_seed(wal_id: bytes, sequence: int) -> int:
    """What the checksums of one file start from."""
    return crc32c(wal_id + _PLACE.pack(sequence))


def unpack_header(seed: int, offset: int, data: Buffer) -> Header | None:
    """The header in `data` (48 bytes) if it was written for this place, else None."""
    magic, checksum = CHECKED.unpack_from(data)
    if magic != MAGIC:
        return None
    body = data[8:HEADER_BYTES]
    if checksum != crc32c(body, crc32c(_PLACE.pack(offset), seed)):
        return None
    return Header._make(_BODY.unpack(body))
