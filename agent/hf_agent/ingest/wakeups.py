"""Calls back at times of the injected clock: one task for all, however many wait."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from hf_agent.clock import Clock

__all__ = ["Wakeups"]


class Wakeups:
    """Lives on the event loop's thread. The task ends when nobody waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._armed_for = 0.0

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, `seconds` from now. There is no way back: let it find nothing to do."""
        when = self._clock.monotonic() + seconds
        heapq.heappush(self._waiting, (when, next(self._order), callback))
        if self._task is None or when < self._armed_for:
            self._arm()

    async def close(self) -> None:
        """Call nobody any more. Idempotent."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _arm(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._armed_for = self._waiting[0][0]
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        while self._waiting:
            self._armed_for = self._waiting[0][0]
            delay = self._armed_for - self._clock.monotonic()
            if delay > 0:
                await self._clock.sleep(delay)
            self._call_due()
        self._task = None

    def _call_due(self) -> None:
        loop, now = asyncio.get_running_loop(), self._clock.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            # Not from here: what goes wrong in one must not keep the others from their turn.
            loop.call_soon(heapq.heappop(self._waiting)[2])
