"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Implements `hf_agent.clock.Clock`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._slept = asyncio.Event()

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), waker))
        self._slept.set()
        await waker

    async def advance(self, seconds: float) -> None:
        """Move on, waking who slept until then, in order, and let them run."""
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            self.now, _, waker = heapq.heappop(self._sleepers)
            if not waker.done():
                waker.set_result(None)
            for _ in range(10):
                await asyncio.sleep(0)
        self.now = end

    async def until_asleep(self) -> None:
        """Return when somebody sleeps."""
        async with asyncio.timeout(20):
            while not any(not waker.done() for _, _, waker in self._sleepers):
                self._slept.clear()
                await self._slept.wait()
