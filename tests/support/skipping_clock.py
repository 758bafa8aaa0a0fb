"""A clock by which every sleep is over at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class SkippingClock:
    """Satisfies `hf_agent.clock.Clock`; a sleep returns at once and moves the time on."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self.now = now
        self.slept: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda seconds: None

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep(seconds)
        await asyncio.sleep(0)
