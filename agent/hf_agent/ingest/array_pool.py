"""Large arrays to receive into, used again when nobody has a view of them any more.

A fresh array costs a fault and the clearing of each of its pages, which for a stream of lines is a
third of all work. Whoever has a view, the log above all, need not say when it is done: an array
that has views cannot be resized, and that is what is asked.
"""

from __future__ import annotations

from collections import deque

__all__ = ["ArrayPool"]


class ArrayPool:
    """Arrays of one size. Lives on the event loop's thread; views may go on any."""

    def __init__(self, array_bytes: int, max_arrays: int) -> None:
        """At most `max_arrays` are kept, in use or not."""
        self.array_bytes = array_bytes
        self._max = max_arrays
        self._lent: deque[bytearray] = deque()
        """Those that may have views, the longest lent first."""
        self._unused: list[bytearray] = []
        self._spare = 0
        """How many of the unused ones were not needed since the last `trim`."""

    def __len__(self) -> int:
        return len(self._lent) + len(self._unused)

    @property
    def kept_bytes(self) -> int:
        """What they take up, never more than `max_arrays` of them."""
        return len(self) * self.array_bytes

    def take(self) -> bytearray:
        """An array that nobody uses: the last one used, for its memory is the nearest.

        What stands in it is anything.
        """
        self._collect()
        array = self._unused.pop() if self._unused else bytearray(self.array_bytes)
        self._spare = min(self._spare, len(self._unused))
        return array

    def give_back(self, array: bytearray) -> None:
        """Nobody will write to it any more; there may be views."""
        if len(array) == self.array_bytes and len(self) < self._max:
            self._lent.append(array)

    def trim(self) -> None:
        """Let go of what nobody needed since the last call."""
        self._collect()
        del self._unused[: self._spare]
        self._spare = len(self._unused)

    def _collect(self) -> None:
        # The log is done with them in the order in which it got them, mostly.
        lent = self._lent
        while lent and _is_unused(lent[0]):
            self._unused.append(lent.popleft())


def _is_unused(array: bytearray) -> bool:
    try:
        last = array.pop()
    except BufferError:
        return False
    array.append(last)
    return True
