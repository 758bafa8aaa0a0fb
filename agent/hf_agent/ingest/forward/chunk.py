"""A message's events as parts of a stream: each part is one append, and is stored whole or not.

Most messages are one part, made at once. A message that is compressed, or large, is worked on slice
by slice, and in between others get their turn. What does not fit into one append becomes several,
which are made one at a time, after all of the message was looked through: of a message that makes
no sense nothing is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple, TypeAlias

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.forward.compression import COMPRESSIONS, unpack
from hf_agent.ingest.forward.entries import Slice, count_entries, slices, split, wrong_size
from hf_agent.ingest.forward.formats import Format
from hf_agent.ingest.forward.messages import Events

__all__ = ["SLICE_BYTES", "Part", "Step", "as_slice", "check_options", "is_small", "parts"]

SLICE_BYTES: Final = 512 << 10
"""What is formatted in one turn of the loop."""

_NOT_COMPRESSED: Final = ("", "text")
_LOGS: Final = 0


class Part(NamedTuple):
    """Some entries of a message, ready to be appended."""

    data: bytes
    number: int
    """How many entries."""
    is_last: bool


Step: TypeAlias = Part | None
"""None: nothing yet, and others may have a turn."""


def check_options(events: Events) -> None:
    """Raise `ProtocolError` (`unsupported`) for what is no log, or compressed in unknown ways."""
    options = events.options
    if options.fluent_signal != _LOGS:
        raise ProtocolError(
            ErrorCode.UNSUPPORTED,
            "not logs: have the peer send metrics and traces elsewhere "
            f"fluent_signal={options.fluent_signal}",
        )
    compressed = options.compressed
    if compressed and compressed not in _NOT_COMPRESSED and compressed not in COMPRESSIONS:
        raise ProtocolError(
            ErrorCode.UNSUPPORTED,
            f"unknown compression compressed={compressed[:40]!r} known={' '.join(COMPRESSIONS)!r}",
        )


def is_small(events: Events) -> bool:
    """Whether it can be formatted in one turn."""
    return not _compression(events) and len(events.entries) <= SLICE_BYTES


def as_slice(events: Events) -> Slice:
    """The entries of a message that is not compressed, and how many it says that they are.

    Raises `ProtocolError` (`malformed`).
    """
    said, count = events.options.size, events.count
    if count is None:
        count = count_entries(events.entries) if said is None else said
        if not 0 < count <= len(events.entries):
            raise wrong_size(count, count_entries(events.entries))
    elif said is not None and said != count:
        raise wrong_size(said, count)
    return Slice(events.entries, count)


def parts(
    events: Events, format: Format, *, max_part_bytes: int, max_unpacked_bytes: int, known: int
) -> Iterator[Step]:
    """The parts of a message, each of at most `max_part_bytes`, without its first `known` entries.

    Holds one part and some slices. Raises `ProtocolError`: `malformed` and `record_too_large`,
    before the first part is out.
    """
    making = _Making(events, format, max_part_bytes, max_unpacked_bytes)
    if not known:  # else it was looked through when those were stored
        whole: list[bytes] | None = []
        size = count = 0
        for data, entries in making.formatted(0):
            count += entries
            size += len(data)
            if whole is not None and size <= max_part_bytes:
                whole.append(data)
            else:
                whole = None
            yield None
        for said in (events.count, events.options.size):
            if said not in (None, count):
                raise wrong_size(said or 0, count)
        if whole is not None:
            yield Part(b"".join(whole), count, is_last=True)
            return
    yield from _gathered(making.formatted(known), max_part_bytes)


def _gathered(formatted: Iterator[_Formatted], max_part_bytes: int) -> Iterator[Step]:
    gathered: list[bytes] = []
    size = count = 0
    for data, entries in formatted:
        if size + len(data) > max_part_bytes:
            yield Part(b"".join(gathered), count, is_last=False)
            gathered, size, count = [], 0, 0
        gathered.append(data)
        size += len(data)
        count += entries
        yield None
    yield Part(b"".join(gathered), count, is_last=True)


class _Formatted(NamedTuple):
    data: bytes
    number: int
    """How many entries."""


class _Making:
    """Goes through the entries of a message, as often as it is asked."""

    def __init__(
        self, events: Events, format: Format, max_part_bytes: int, max_unpacked_bytes: int
    ) -> None:
        self._events = events
        self._format = format
        self._metadata = events.options.metadata
        self._max_part_bytes = max_part_bytes
        self._max_unpacked_bytes = max_unpacked_bytes

    def formatted(self, known: int) -> Iterator[_Formatted]:
        """What the entries become, behind the first `known`, in pieces that fit into a part."""
        for slice_ in slices(self._pieces()):
            if slice_.number <= known:
                known -= slice_.number
                continue
            yield from self._fitting(split(slice_, known)[1] if known else slice_)
            known = 0

    def _pieces(self) -> Iterator[memoryview | bytes]:
        entries = self._events.entries
        compression = _compression(self._events)
        if compression:
            yield from unpack(
                entries,
                compression,
                piece_bytes=SLICE_BYTES,
                max_bytes=self._max_unpacked_bytes,
            )
        else:
            for at in range(0, len(entries), SLICE_BYTES):
                yield entries[at : at + SLICE_BYTES]

    def _fitting(self, slice_: Slice) -> Iterator[_Formatted]:
        data = self._format.format(slice_, self._events.tag, self._metadata)
        if len(data) <= self._max_part_bytes:
            yield _Formatted(data, slice_.number)
        elif slice_.number == 1:
            raise ProtocolError(
                ErrorCode.RECORD_TOO_LARGE,
                "an entry takes more than max_record_bytes in the stream: raise that, or have the "
                f"peer send smaller records bytes={len(data)} limit={self._max_part_bytes}",
            )
        else:
            for half in split(slice_, slice_.number // 2):
                yield from self._fitting(half)


def _compression(events: Events) -> str:
    compressed = events.options.compressed
    return "" if compressed in _NOT_COMPRESSED else compressed
