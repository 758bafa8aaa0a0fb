"""Time and randomness: the one place where the process touches either.

Everything else takes a `Clock` or a `random.Random` as an argument, so that a simulation can
replay a run from one integer seed. Ruff bans the direct calls elsewhere (TID251).
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Protocol

__all__ = ["Clock", "SystemClock", "system_random", "ulid"]

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class Clock(Protocol):
    """What the agent may know of time."""

    def time(self) -> float:
        """Seconds since the Unix epoch, as the machine believes; may jump."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for at least `seconds`."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def system_random() -> random.Random:
    """A generator seeded by the operating system."""
    return random.SystemRandom()


def ulid(clock: Clock, rng: random.Random) -> str:
    """A 26-character ULID: 48 bits of milliseconds, 80 random bits, Crockford base 32."""
    value = (int(clock.time() * 1000) & (1 << 48) - 1) << 80 | rng.getrandbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
