"""Reading ahead of somebody who reads one range behind the other.

What is ahead is read in pieces, several of them at a time. How far ahead grows with each read, up
to a bound; a reader that jumps elsewhere gets what it asks for and nothing more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

__all__ = ["ReadAhead"]

_FIRST_WINDOW = 128 << 10
_ALIGNMENT = 64 << 10


class _Piece(NamedTuple):
    start: int
    end: int
    data: asyncio.Task[bytes]


class ReadAhead:
    """Wraps `read(offset, length)` of a content that does not change. Calls wait for each other."""

    def __init__(
        self,
        read: Callable[[int, int], Awaitable[bytes]],
        size: int,
        *,
        max_bytes: int,
        piece_bytes: int = 8 << 20,
        alignment: int = _ALIGNMENT,
    ) -> None:
        """`size` bytes are there to be read. Pieces of up to `piece_bytes` that end at multiples of
        `alignment`, where they can, hold up to `max_bytes` together, and the one that was used last
        comes on top of that; 0: nothing is read ahead."""
        self._read = read
        self._size = size
        self._max = max_bytes
        self._piece_bytes = min(piece_bytes, max(max_bytes // 2, 1))
        self._alignment = alignment
        self._window = 0
        self._expected = 0
        self._pieces: deque[_Piece] = deque()
        self._one_call = asyncio.Lock()
        self.front: tuple[int, bytes] = (0, b"")
        """Where the piece that was last read from begins, and its bytes. What lies in it can be
        had without a call, from any thread."""

    async def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end. Raises what `read` raises."""
        if not self._max:
            return await self._read(offset, length)
        buffer = bytearray(max(min(offset + length, self._size) - offset, 0))
        await self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    async def read_into(self, offset: int, view: memoryview) -> int:
        """Fill `view` with the bytes from `offset` on; fewer only at the end. Returns how many.

        Raises what `read` raises.
        """
        if not self._max:
            # Of a file that is written to: its size is not the one that it had.
            data = await self._read(offset, len(view))
            view[: len(data)] = data
            return len(data)
        async with self._one_call:
            end = min(offset + len(view), self._size)
            if end <= offset:
                return 0
            if self._continues(offset):
                await self._read_in_order(offset, view[: end - offset])
            else:
                await self._forget()
                view[: end - offset] = await self._read(offset, end - offset)
            self._expected = end
            return end - offset

    async def close(self) -> None:
        """Forget what was read ahead."""
        async with self._one_call:
            await self._forget()

    def _continues(self, offset: int) -> bool:
        """Whether a read goes on where the last one ended, or uses what is ahead of that."""
        if offset == self._expected:
            return True
        return bool(self._pieces) and self._pieces[0].start <= offset <= self._pieces[-1].end

    async def _read_in_order(self, offset: int, view: memoryview) -> None:
        start, end = offset, offset + len(view)
        self._window = min(max(2 * self._window, _FIRST_WINDOW), self._max)
        try:
            while offset < end:
                self._begin(offset, max(end, start + self._window))
                piece = self._pieces[0]
                data = await piece.data
                if len(data) != piece.end - piece.start:
                    raise EOFError(f"the content ends before its size {offset=} size={self._size}")
                self.front = piece.start, data
                upto = min(end, piece.end)
                view[offset - start : upto - start] = memoryview(data)[
                    offset - piece.start : upto - piece.start
                ]
                offset = upto
            self._begin(offset, start + self._window)
        except BaseException:
            self._expected = start
            await self._forget()
            raise

    def _begin(self, offset: int, upto: int) -> None:
        """Drop pieces that end at or before `offset`; have those read that lie before `upto`, as
        far as there is room, and at least the one with `offset` in it."""
        pieces = self._pieces
        while pieces and pieces[0].end <= offset:
            pieces.popleft()
        at = pieces[-1].end if pieces else offset
        upto = min(upto, self._size)
        while at < upto:
            # Pieces grow with the window; and blocks are not cut, each would be read twice.
            end = at + min(self._piece_bytes, max(self._window // 2, _FIRST_WINDOW))
            end = min(max(end // self._alignment * self._alignment, at + 1), self._size)
            if pieces and end - pieces[0].start > self._max:
                return
            pieces.append(_Piece(at, end, asyncio.create_task(self._call(at, end - at))))
            at = end

    async def _call(self, offset: int, length: int) -> bytes:
        return await self._read(offset, length)

    async def _forget(self) -> None:
        tasks = [piece.data for piece in self._pieces]
        self._pieces.clear()
        self._window = 0
        self.front = 0, b""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
