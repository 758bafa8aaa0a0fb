"""Times of events as RFC 3339 says them, in UTC, with nanoseconds."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

__all__ = ["EVENT_TIME", "EVENT_TIME_BYTES", "TimeTexts", "time_text", "unpack_event_time"]

EVENT_TIME: Final = 0
"""Ext type of `EventTime`: seconds and nanoseconds, 32 bits each, big-endian."""

EVENT_TIME_BYTES: Final = 8

_PAIR: Final = struct.Struct(">II")
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - only counted from, in UTC throughout
_BILLION: Final = 1_000_000_000
_SECONDS_KEPT: Final = 1024


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


class TimeTexts:
    """The texts of many times at a time; remembers the seconds that it had lately."""

    def __init__(self) -> None:
        self._seconds: dict[int, str] = {}

    def of_event_times(self, data: bytes, count: int) -> list[str] | None:
        """Of `count` `EventTime`s one behind the other; None when any is out of the ordinary."""
        if len(data) != EVENT_TIME_BYTES * count:
            return None
        numbers: list[str | int] = list(struct.unpack(f">{2 * count}I", data))
        if max(numbers[1::2]) >= _BILLION:  # type: ignore[operator]
            return None
        seconds = self._texts(numbers[::2])  # type: ignore[arg-type]
        if seconds is None:
            return None
        numbers[::2] = seconds
        # One call that formats them all, and one that cuts: per time it is a fraction of a call.
        return ("\n".join(["%s.%09dZ"] * count) % tuple(numbers)).split("\n")

    def of_seconds(self, seconds: Sequence[int]) -> list[str] | None:
        """Of whole seconds; None when any cannot be said."""
        texts = self._texts(seconds)
        return None if texts is None else [f"{text}.000000000Z" for text in texts]

    def _texts(self, seconds: Sequence[int]) -> list[str] | None:
        known = self._seconds
        new = {*seconds} - known.keys()
        if len(known) + len(new) > _SECONDS_KEPT:
            known.clear()
            new = {*seconds}
        for second in new:
            text = _second(second)
            if text is None:
                return None
            known[second] = text
        return [known[second] for second in seconds]


def _second(seconds: int) -> str | None:
    try:
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()
    except OverflowError:
        return None
