"""Where each stream's records lie in one file, as compact arrays.

A record costs 8 bytes here, whatever its size: millions of tiny records stay small. The arrays
only ever grow at their ends, so a reader in another thread sees a prefix.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

__all__ = ["OFFSET_UNIT", "FileExtents", "StreamExtents", "cut", "find_sorted"]

OFFSET_UNIT = 8
"""Offsets are kept in units of the record alignment, so 32 bits reach 32 GiB."""


class StreamExtents:
    """One stream's records in one file, in order, without gaps in the stream."""

    __slots__ = ("ends", "first", "offsets")

    def __init__(self, first: int) -> None:
        self.first = first
        """Stream position of the first byte."""
        self.offsets = array("I")
        """Offset of each record header, in units of 8 bytes."""
        self.ends = array("I")
        """End of each record's payload, relative to `first`."""

    @property
    def end(self) -> int:
        """Stream position after the last record."""
        return self.first + (self.ends[-1] if self.ends else 0)

    def add(self, offset: int, length: int) -> None:
        """Take note of a record of `length` payload bytes at `offset`."""
        end = (self.ends[-1] if self.ends else 0) + length
        # The end comes last: readers trust the length of `ends`.
        self.offsets.append(offset // OFFSET_UNIT)
        self.ends.append(end)


class FileExtents:
    """All streams' records in one file, by stream number."""

    __slots__ = ("records", "streams")

    def __init__(self) -> None:
        self.streams: dict[int, StreamExtents] = {}
        self.records = 0

    def add(self, stream: int, position: int, offset: int, length: int) -> None:
        """Take note of a record that continues `stream` at `position`."""
        extents = self.streams.get(stream)
        if extents is None:
            # Filled before it can be seen: a reader never meets an empty one.
            extents = StreamExtents(position)
            extents.add(offset, length)
            self.streams[stream] = extents
        else:
            extents.add(offset, length)
        self.records += 1


def cut(ends: Sequence[int], start: int, max_bytes: int) -> tuple[int, int] | None:
    """Which records `[i, j)` to read from `start` (relative, like `ends`), at least one.

    None when no record begins at `start`.
    """
    low = bisect_right(ends, start)
    if low == len(ends) or (low == 0 and start != 0):
        return None
    if low > 0 and ends[low - 1] != start:
        return None
    high = bisect_right(ends, start + max_bytes, low)
    return low, max(high, low + 1)


def find_sorted(values: Sequence[int], value: int) -> int:
    """Index of `value` in sorted `values`, or -1."""
    at = bisect_left(values, value)
    return at if at < len(values) and values[at] == value else -1
