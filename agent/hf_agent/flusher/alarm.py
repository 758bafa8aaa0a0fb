"""One time to be called back at, by a clock that a simulation may move."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hf_agent.clock import Clock

__all__ = ["Alarm"]


class Alarm:
    """Calls `ring` at the time that was set last, if none was set since."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at: float | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, at: float | None) -> None:
        """Ring at `at`, in seconds of the clock's `monotonic`; never, with None."""
        if at == self._at:
            return
        if self._task is not None:
            self._task.cancel()
        self._at = at
        self._task = None
        if at is not None:
            self._task = asyncio.create_task(self._sleep(at), name="alarm")

    async def _sleep(self, at: float) -> None:
        while (left := at - self._clock.monotonic()) > 0:
            await self._clock.sleep(left)
        self._at = self._task = None
        self._ring()
