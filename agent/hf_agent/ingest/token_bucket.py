"""A token bucket in whole numbers: so many bytes a second, and a burst that has gathered.

The level is kept in billionths of a byte and time in whole nanoseconds, so nothing is ever
rounded away: from any moment to any other, what was spent is at most the burst, and the rate times
what has passed, and what the last one to spend went beyond. A bucket whose level is below zero is
in debt, which the same rate pays back. Owns no clock.
"""

from __future__ import annotations

from typing import Final

__all__ = ["TokenBucket"]

_BYTE: Final = 1_000_000_000
"""One byte's worth of level; also nanoseconds of a second."""


class TokenBucket:
    """Full at first. Times are seconds of one monotonic clock."""

    __slots__ = ("_burst", "_level", "_rate", "_then")

    def __init__(self, rate: int, burst: int, now: float) -> None:
        """`rate` is bytes a second, `burst` bytes; both positive."""
        self._rate = rate
        self._burst = burst * _BYTE
        self._level = self._burst
        self._then = _nanoseconds(now)

    def spend(self, nbytes: int, now: float) -> None:
        """Take `nbytes` out, whether they are there or not."""
        self._fill(now)
        self._level -= nbytes * _BYTE

    def level(self, now: float) -> int:
        """Whole bytes that may be spent; negative: the debt."""
        self._fill(now)
        return self._level // _BYTE

    def wait(self, nbytes: int, now: float) -> float:
        """Seconds until `nbytes` are there; 0.0 if they are. More than the burst never are."""
        self._fill(now)
        missing = nbytes * _BYTE - self._level
        return -(-missing // self._rate) / _BYTE if missing > 0 else 0.0

    def _fill(self, now: float) -> None:
        then = _nanoseconds(now)
        if then > self._then:
            self._level = min(self._burst, self._level + (then - self._then) * self._rate)
            self._then = then


def _nanoseconds(seconds: float) -> int:
    return round(seconds * _BYTE)
