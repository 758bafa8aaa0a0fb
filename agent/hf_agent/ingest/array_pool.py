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
        self._arrays: deque[bytearray] = deque()
        self._taken = False

    def __len__(self) -> int:
        return len(self._arrays)

    def take(self) -> bytearray:
        """An array that nobody uses. What stands in it is anything."""
        self._taken = True
        arrays = self._arrays
        # The log is done with them in the order in which it got them, mostly.
        if arrays and _is_unused(arrays[0]):
            return arrays.popleft()
        return bytearray(self.array_bytes)

    def give_back(self, array: bytearray) -> None:
        """Nobody will write to it any more; there may be views."""
        if len(array) == self.array_bytes and len(self._arrays) < self._max:
            self._arrays.append(array)

    def trim(self) -> None:
        """Keep nothing if nobody took anything since the last call."""
        if not self._taken:
            self._arrays.clear()
        self._taken = False


def _is_unused(array: bytearray) -> bool:
    try:
        last = array.pop()
    except BufferError:
        return False
    array.append(last)
    return True
