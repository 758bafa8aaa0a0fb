"""Reading ahead of somebody who reads one range behind the other.

Two windows at most: the one that is being used up, and the next, which is on its way. A reader that
jumps gets what it asks for and nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["ReadAhead"]

_FIRST_WINDOW = 128 << 10


class ReadAhead:
    """Wraps `read(offset, length)` of a content that does not change. One call at a time."""

    def __init__(
        self, read: Callable[[int, int], Awaitable[bytes]], size: int, *, max_bytes: int
    ) -> None:
        """`size` bytes are there to be read; a window has at most `max_bytes`, 0: none."""
        self._read = read
        self._size = size
        self._max = max_bytes
        self._window = 0
        self._expected = 0
        self._data = b""
        self._start = 0
        self._next: asyncio.Task[bytes] | None = None
        self._next_start = 0

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end. Raises what `read` raises."""
        if not self._max:
            return await self._read(offset, length)
        end = min(offset + length, self._size)
        if end <= offset:
            return b""
        in_order = offset == self._expected
        self._expected = end
        if not in_order:
            await self.close()
            return await self._read(offset, end - offset)
        self._window = min(max(2 * self._window, _FIRST_WINDOW), self._max)
        parts = []
        while offset < end:
            if not self._start <= offset < self._start + len(self._data):
                await self._move_to(offset, end)
            part = self._data[offset - self._start : end - self._start]
            parts.append(part)
            offset += len(part)
        self._prefetch()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def close(self) -> None:
        """Forget what was read ahead."""
        waiting, self._next = self._next, None
        self._data = b""
        self._window = 0
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def _move_to(self, offset: int, end: int) -> None:
        """Have a window that begins at `offset`."""
        waiting, self._next = self._next, None
        if waiting is not None and self._next_start == offset:
            self._data = b""
            self._data = await waiting
        else:
            self._data = b""
            length = max(end - offset, self._window)
            self._data = await self._read(offset, min(length, self._size - offset))
        self._start = offset
        if not self._data:
            raise EOFError(f"the content ends before its size offset={offset} size={self._size}")

    def _prefetch(self) -> None:
        """Once half of the window is used, fetch the next one."""
        end = self._start + len(self._data)
        if self._next is None and end < self._size and 2 * self._expected >= self._start + end:
            self._next_start = end
            length = min(self._window, self._size - end)
            self._next = asyncio.ensure_future(self._read(end, length))
