"""The batch that gathers appends, and its encoding as records for one place in a file.

Encoding copies small payloads once (into one image with all headers) and large ones not at all:
those go to the disk from the memory in which they were appended.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.wal.disk import Buffer
from hf_agent.wal.record import (
    CHECKED,
    COMMIT,
    DATA,
    END,
    HEADER_BYTES,
    MAGIC,
    MARKS,
    NOTE,
    PLACED_HEADER,
    STREAM,
    padded,
)
from hf_agent.wal.snapshot import pack_marks
from hf_agent.wal.state import MarkKey, StreamState

__all__ = [
    "LARGE",
    "PART_OVERHEAD",
    "Batch",
    "EncodedBatch",
    "Item",
    "Part",
    "commit_bytes",
    "commit_item",
    "encode",
    "encoded_size",
    "unpack_commits",
]

LARGE = 16 << 10
"""Buffers of this size and above are written from where they are, without a copy."""
PART_OVERHEAD = HEADER_BYTES + 8 + 48
"""Upper bound of what a record takes beside its payload: header, padding, index entries."""

_SHORT = 1 << 20
"""Up to this size a checksum takes less time than to get the GIL back, for which this thread would
wait after each buffer of a batch while the other one receives."""
_WITH_GIL, _WITHOUT_GIL = 0, 1
_COMMIT = struct.Struct("<IIQ")
_PADDING = [bytes(count) for count in range(8)]
_NO_HEADER = bytes(HEADER_BYTES)


class Part:
    """What one batch holds of one stream: it becomes one DATA record."""

    __slots__ = ("buffers", "large", "size", "start", "state")

    def __init__(self, state: StreamState) -> None:
        self.state = state
        self.start = state.position
        self.buffers: list[Buffer] = []
        self.size = 0
        self.large = False
        """Whether a buffer is `LARGE`."""


class Batch:
    """Appends that become durable together. Filled by one thread, then encoded by the writer."""

    __slots__ = ("marks", "new_streams", "notes", "number", "parts", "size")

    def __init__(self, number: int) -> None:
        self.number = number
        self.size = 0
        """Upper bound of its bytes in the file, its share of the index included."""
        self.parts: dict[str, Part] = {}
        self.new_streams: list[StreamState] = []
        self.notes: dict[StreamState, bytes] = {}
        self.marks: dict[MarkKey, int] = {}

    def items(self) -> list[Item]:
        """Its records, in the order in which they are written."""
        items: list[Item] = []
        for state in self.new_streams:
            name = state.name.encode()
            items.append(Item(STREAM, state.number, 0, [name], len(name)))
        for part in self.parts.values():
            if part.size:
                number = part.state.number
                items.append(Item(DATA, number, part.start, part.buffers, part.size, part.large))
        for state, note in self.notes.items():
            items.append(Item(NOTE, state.number, 0, [note], len(note)))
        if self.marks:
            marks = pack_marks(self.marks)
            items.append(Item(MARKS, 0, 0, [marks], len(marks)))
        return items

    def release(self) -> None:
        """Let go of the payloads' memory."""
        for part in self.parts.values():
            part.buffers.clear()


class Item(NamedTuple):
    """One record to be encoded."""

    type: int
    stream: int
    position: int
    buffers: Sequence[Buffer]
    size: int
    """Bytes of all buffers."""
    large: bool = False
    """Whether some buffer is `LARGE`."""
    flags: int = 0
    """Flags of the record beside END."""


class EncodedBatch(NamedTuple):
    """Bytes of a batch for one place, ready for `pwritev`."""

    buffers: list[Buffer]
    size: int
    """Bytes of all buffers."""
    offsets: list[int]
    """Where each item's record begins in the file."""


def encoded_size(items: Iterable[Item]) -> int:
    """Bytes that the items take in a file."""
    return sum(HEADER_BYTES + padded(item.size) for item in items)


def commit_bytes(streams: int) -> int:
    """Size of a COMMIT record of that many streams."""
    return HEADER_BYTES + _COMMIT.size * streams


def commit_item(positions: Iterable[tuple[int, int]]) -> Item:
    """A COMMIT record of `(stream number, committed position)` pairs."""
    payload = b"".join(_COMMIT.pack(number, 0, position) for number, position in positions)
    return Item(COMMIT, 0, 0, [payload], len(payload))


def unpack_commits(payload: bytes) -> list[tuple[int, int]]:
    """The pairs of a COMMIT payload. Raises `ValueError` when its length is wrong."""
    if len(payload) % _COMMIT.size:
        raise ValueError("not a whole number of entries")
    return [(number, position) for number, _, position in _COMMIT.iter_unpack(payload)]


def encode(items: Sequence[Item], seed: int, offset: int, batch: int, time_ns: int) -> EncodedBatch:
    """The records of `items` for `offset` of the file with `seed`; the last one has END.

    Nothing is shared between calls: a batch may be encoded again for another place.
    """
    small: list[Buffer] = []  # what goes into the image
    cuts: list[tuple[int, Buffer]] = []  # (place in the image, large buffer that belongs there)
    layout: list[tuple[int, int, int, int]] = []  # header and payload end in the image, its cuts
    length = 0
    for _, _, _, parts, payload, large, _ in items:
        header = length
        first_cut = len(cuts)
        small.append(_NO_HEADER)
        length += HEADER_BYTES
        if large:
            for buffer in parts:
                size = buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)
                if size >= LARGE:
                    cuts.append((length, buffer))
                else:
                    small.append(buffer)
                    length += size
        else:
            small.extend(parts)
            length += payload
        layout.append((header, length, first_cut, len(cuts)))
        padding = -payload & 7
        if padding:
            small.append(_PADDING[padding])
            length += padding

    image = bytearray().join(small)
    view = memoryview(image)
    offsets: list[int] = []
    place = offset
    last = len(items) - 1
    for index, (kind, stream, position, _, size, _, flags) in enumerate(items):
        header, end, low, high = layout[index]
        at = header + HEADER_BYTES
        crc = 0
        for cut, buffer in cuts[low:high]:
            before = crc32c(view[at:cut], crc)
            crc = crc32c(buffer, before, _WITH_GIL if len(buffer) <= _SHORT else _WITHOUT_GIL)
            at = cut
        crc = crc32c(view[at:end], crc)
        if index == last:
            flags |= END
        # First the place where magic and checksum go: it is what the checksum starts with.
        PLACED_HEADER.pack_into(
            image, header, place, crc, size, kind, flags, 0, stream, position, batch, time_ns
        )
        checksum = crc32c(view[header : header + HEADER_BYTES], seed)
        CHECKED.pack_into(image, header, MAGIC, checksum)
        offsets.append(place)
        place += HEADER_BYTES + size + (-size & 7)

    buffers: list[Buffer] = []
    at = 0
    for cut, buffer in cuts:
        if cut > at:
            buffers.append(view[at:cut])
            at = cut
        buffers.append(buffer)
    if at < length:
        buffers.append(view[at:])
    return EncodedBatch(buffers, place - offset, offsets)
