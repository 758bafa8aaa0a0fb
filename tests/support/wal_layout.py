"""The records in the files of a write-ahead log, read from the tables in `docs/wal-format.md`.

Shares no code with `hf_agent.wal`: what a log provably holds is computed here a second time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack
from crc32c import crc32c

__all__ = ["HEAD", "HEADER", "Known", "Record", "fold", "records_of"]

HEAD = 64
HEADER = 48
DATA, STREAM, NOTE, MARKS, SNAPSHOT, INDEX, COMMIT = range(1, 8)
END = 1


class Record(NamedTuple):
    """One record, and where it stands."""

    file: str
    offset: int
    type: int
    flags: int
    stream: int
    position: int
    batch: int
    payload: bytes

    @property
    def end(self) -> int:
        """Offset after its payload; padding follows."""
        return self.offset + HEADER + len(self.payload)


def records_of(file: str, data: bytes) -> Iterator[Record]:
    """The run of good records from the file's start on."""
    sequence = int(file[:16], 16)
    seed = crc32c(data[16:32] + struct.pack("<Q", sequence))
    offset = HEAD
    while offset + HEADER <= len(data) - 64:
        magic, checksum, payload_crc, length = struct.unpack_from("<4sIII", data, offset)
        covered = struct.pack("<Q", offset) + data[offset + 8 : offset + HEADER]
        if magic != b"\xf1Rec" or checksum != crc32c(covered, seed):
            return
        payload = data[offset + HEADER : offset + HEADER + length]
        if crc32c(payload) != payload_crc:
            return
        kind, flags, _, stream, position, batch = struct.unpack_from("<BBHIQQ", data, offset + 16)
        yield Record(file, offset, kind, flags, stream, position, batch, payload)
        offset += HEADER + length + -length % 8


@dataclass
class Known:
    """What some records say, taken together."""

    names: dict[int, str] = field(default_factory=dict)
    chunks: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    """By stream: positions, and what was appended there."""
    end: dict[int, int] = field(default_factory=dict)
    """By stream: position after the last byte that anything tells of."""
    committed: dict[int, int] = field(default_factory=dict)
    notes: dict[int, bytes] = field(default_factory=dict)
    marks: dict[str | bytes, int] = field(default_factory=dict)

    def content(self, stream: int, start: int) -> bytes:
        """From `start` to the end, zeros for what nothing is known of."""
        content = bytearray(max(0, self.end.get(stream, 0) - start))
        for position, data in self.chunks.get(stream, ()):
            kept = data[max(0, start - position) :]
            at = max(0, position - start)
            content[at : at + len(kept)] = kept
        return bytes(content)

    def pieces(self, stream: int, start: int) -> bytes:
        """The known bytes from `start` on, one after the other."""
        return b"".join(
            data[max(0, start - position) :] for position, data in self.chunks.get(stream, ())
        )


def fold(records: list[Record], headers_only: frozenset[Record] = frozenset()) -> Known:
    """What `records` say, which are in the log's order; of some, the header alone is left."""
    known = Known()
    for each in records:
        stream, payload = each.stream, each.payload
        if each.type == DATA:
            end = each.position + len(payload)
            known.end[stream] = max(known.end.get(stream, 0), end)
            if each not in headers_only:
                known.chunks.setdefault(stream, []).append((each.position, payload))
        elif each in headers_only:
            continue
        elif each.type == STREAM:
            known.names[stream] = payload.decode()
            known.end.setdefault(stream, 0)
        elif each.type == NOTE:
            known.notes[stream] = payload
        elif each.type == MARKS:
            raise_marks(known, msgpack.unpackb(payload, strict_map_key=False).items())
        elif each.type == COMMIT:
            for number, _, position in struct.iter_unpack("<IIQ", payload):
                known.committed[number] = max(known.committed.get(number, 0), position)
        elif each.type == SNAPSHOT:
            streams, marks = msgpack.unpackb(payload)
            for number, name, position, committed, note in streams:
                known.names[number] = name
                known.notes[number] = note
                known.end[number] = max(known.end.get(number, 0), position)
                known.committed[number] = max(known.committed.get(number, 0), committed)
            raise_marks(known, marks)
    return known


def raise_marks(known: Known, marks: object) -> None:
    """Take in what a record says of marks."""
    for key, value in marks:  # type: ignore[attr-defined]
        number = value if isinstance(value, int) else value[0] << 63 | value[1]
        known.marks[key] = max(known.marks.get(key, 0), number)
