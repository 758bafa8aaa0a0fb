"""Times of events as RFC 3339 says them, in UTC, with nanoseconds."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from msgspec import MsgspecError, Raw
from msgspec.json import Encoder
from msgspec.msgpack import Decoder

from hf_agent.ingest.forward.entries import Slice, array_of

__all__ = ["EVENT_TIME", "EVENT_TIME_BYTES", "TimeTexts", "time_text", "unpack_event_time"]

EVENT_TIME: Final = 0
"""Ext type of `EventTime`: seconds and nanoseconds, 32 bits each, big-endian."""

EVENT_TIME_BYTES: Final = 8

_PAIR: Final = struct.Struct(">II")
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - only counted from, in UTC throughout
_BILLION: Final = 1_000_000_000
_SECONDS_KEPT: Final = 1024
_DIGITS: Final = 11
"""Bytes of a second's nanoseconds, plus a second, and a separator."""

_encoder: Final = Encoder()
_integers: Final = Decoder(list[int])


def unpack_event_time(data: bytes) -> tuple[int, int] | None:
    """Seconds and nanoseconds of an `EventTime`; None when it has not 8 bytes."""
    if len(data) != EVENT_TIME_BYTES:
        return None
    seconds, nanos = _PAIR.unpack(data)
    return seconds, nanos


def time_text(seconds: float, nanos: int = 0) -> str | None:
    """The time; None where RFC 3339, whose years have four digits, cannot say it.

    A float is rounded to nanoseconds. Nanoseconds of a second and more are carried over.
    """
    if isinstance(seconds, float):
        if not math.isfinite(seconds):
            return None
        whole = math.floor(seconds)
        seconds, nanos = whole, round((seconds - whole) * _BILLION)
    carried, nanos = divmod(nanos, _BILLION)
    begin = _second(seconds + carried)
    return None if begin is None else f"{begin}.{nanos:09d}Z"


_PACKED: Final = (
    (b"\xd7\x00", 10, "xxII"),
    (b"\xc7\x08\x00", 11, "xxxII"),  # the same, as ext of any length
)
"""How an `EventTime` is packed: what it begins with, its size, and all of it, for `struct`."""


class TimeTexts:
    """The texts of many times at a time; remembers the seconds that it had lately."""

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def of(self, times: Sequence[Raw]) -> list[str] | None:
        """The texts of packed `times`; None unless all are integers, or `EventTime`s of one form.

        None, too, where a text is out of the ordinary.
        """
        count = len(times)
        data = b"".join(times)
        for head, size, layout in _PACKED:
            # A time ends where its head says. So if a head stands wherever a time of its size
            # would begin, there are no others.
            if len(data) == size * count and all(
                data[place::size] == bytes((byte,)) * count for place, byte in enumerate(head)
            ):
                numbers = struct.unpack(">" + layout * count, data)
                return self._of_pairs(numbers[::2], numbers[1::2])
        try:
            seconds = _integers.decode(array_of(Slice(data, count)))
            return [f"{self._text(second)}.000000000Z" for second in seconds]
        except (MsgspecError, OverflowError):
            return None

    def _of_pairs(self, seconds: Sequence[int], nanos: Sequence[int]) -> list[str] | None:
        # All nanoseconds at once: of each a separator, a 1, and nine digits.
        digits = _encoder.encode([_BILLION + nano for nano in nanos])
        if digits[1::_DIGITS].strip(b"1") != (b"]" if not nanos else b""):
            return None  # to be carried
        pieces = []
        at = 0
        for second, count in _stretches(seconds):
            begin = self._text(second).encode() + b"."
            end = at + _DIGITS * count
            pieces.append(begin + digits[at + 2 : end].replace(b",1", b"Z," + begin))
            at = end
        return b"Z,".join([*pieces, b""]).decode().split(",")[:-1]

    def _text(self, second: int) -> str:
        """Of one second. Raises `OverflowError` where RFC 3339 cannot say it."""
        text = self._seconds.get(second)
        if text is None:
            if len(self._seconds) >= _SECONDS_KEPT:
                self._seconds.clear()
            text = self._seconds[second] = (_EPOCH + timedelta(seconds=second)).isoformat()
        return text


def _stretches(seconds: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Each second, and how often it comes, one behind the other."""
    at, count = 0, len(seconds)
    while at < count:
        second = seconds[at]
        # Times rise, mostly. Where they do not, what is found so is no stretch.
        end = bisect_right(seconds, second, at)
        if seconds[at:end].count(second) != end - at:
            for second, same in groupby(seconds[at:]):
                yield second, len(list(same))
            return
        yield second, end - at
        at = end


def _second(seconds: int) -> str | None:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return None
