"""What one connection wants to be told once the store has it: in rounds.

While one round waits for the store, whatever else asks gathers in the next, by stream. So each
stream of a connection has one flush asked for at a time, and memory is bounded by the streams
however much a client pipelines while the store is away.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterable

from hf_agent.ingest.sink import Rejected, Sink

__all__ = ["StoreAcks"]


class _Round:
    __slots__ = ("id", "left", "positions")

    def __init__(self) -> None:
        self.id = 0
        self.positions: dict[str, int | None] = {}
        self.left = 0


class StoreAcks:
    """Calls `announce(id, positions)` when the store has every append up to `id` that asked."""

    def __init__(self, sink: Sink, announce: Callable[[int, dict[str, int]], None]) -> None:
        self._sink = sink
        self._announce = announce
        self._current: _Round | None = None
        self._next = _Round()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def __bool__(self) -> bool:
        return self._current is not None

    def want(self, id: int, ends: Iterable[tuple[str, int | None]]) -> None:
        """Append `id` ends at these positions of streams; None: not known (a resend)."""
        gathering = self._next
        gathering.id = id
        for stream, position in ends:
            if position is not None or stream not in gathering.positions:
                gathering.positions[stream] = position
        if self._current is None:
            self._start()

    def close(self) -> None:
        """Announce nothing more."""
        self._closed = True
        self._current = None
        for task in self._tasks:
            task.cancel()

    def _start(self) -> None:
        round_ = self._current = self._next
        self._next = _Round()
        round_.left = len(round_.positions)
        for stream, position in round_.positions.items():
            if position is None:
                task = asyncio.get_running_loop().create_task(self._flush(round_, stream))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            else:
                self._sink.notify_stored(
                    stream, position, functools.partial(self._one_done, round_)
                )

    async def _flush(self, round_: _Round, stream: str) -> None:
        try:
            await self._sink.flush(stream)
        except Rejected as error:
            # A resend of a stream that is not known any more: nothing of it is left to store.
            if error.code != "unknown_stream":
                return
        self._one_done(round_)

    def _one_done(self, round_: _Round) -> None:
        round_.left -= 1
        if round_.left or self._closed:
            return
        self._current = None
        if self._next.positions:
            self._start()
        self._announce(
            round_.id,
            {name: position for name, position in round_.positions.items() if position is not None},
        )
