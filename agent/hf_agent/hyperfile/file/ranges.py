"""Sets of integers, as disjoint half-open ranges: bytes of a block, blocks of a file."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

__all__ = ["END", "RangeSet"]

END = 1 << 64
"""Past every offset and every block index."""


class RangeSet:
    """Ranges that neither overlap nor touch, ascending."""

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __contains__(self, value: int) -> bool:
        position = bisect_right(self._starts, value) - 1
        return position >= 0 and value < self._ends[position]

    def add(self, start: int, end: int) -> None:
        """Add `[start, end)`; does nothing for an empty range."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def cut(self, end: int) -> None:
        """Take everything from `end` on away."""
        keep = bisect_left(self._starts, end)
        del self._starts[keep:], self._ends[keep:]
        if keep and self._ends[-1] > end:
            self._ends[-1] = end

    def covers(self, start: int, end: int) -> bool:
        """Whether all of `[start, end)` is in the set."""
        if start >= end:
            return True
        position = bisect_right(self._starts, start) - 1
        return position >= 0 and end <= self._ends[position]

    def within(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of the ranges that lie in `[start, end)`, ascending."""
        for position in range(bisect_right(self._ends, start), bisect_left(self._starts, end)):
            yield max(self._starts[position], start), min(self._ends[position], end)

    def next_member(self, value: int) -> int:
        """The smallest member from `value` on; `END` when there is none."""
        position = bisect_right(self._ends, value)
        return max(self._starts[position], value) if position < len(self._starts) else END

    def copy(self) -> RangeSet:
        """Another set with the same members."""
        twin = RangeSet()
        twin._starts, twin._ends = self._starts.copy(), self._ends.copy()
        return twin
