"""One time to be called back at."""

from __future__ import annotations

import asyncio

from hf_agent.flusher.alarm import Alarm
from support.manual_clock import ManualClock


async def test_it_rings_once_at_the_time_that_was_set_last() -> None:
    clock, rings = ManualClock(), list[float]()
    alarm = Alarm(clock, lambda: rings.append(clock.now))
    alarm.set(1010.0)
    alarm.set(1005.0)
    alarm.set(1005.0)
    await clock.until_asleep()
    await clock.advance(4.9)
    assert rings == []
    await clock.advance(20)
    assert rings == [1005.0]


async def test_it_can_be_set_again_after_it_rang_for_the_same_time_too() -> None:
    clock, rings = ManualClock(), list[float]()
    alarm = Alarm(clock, lambda: rings.append(clock.now))
    for _ in range(2):
        alarm.set(1000.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert rings == [1000.0, 1000.0]


async def test_none_turns_it_off() -> None:
    clock, rings = ManualClock(), list[float]()
    alarm = Alarm(clock, lambda: rings.append(clock.now))
    alarm.set(1005.0)
    await clock.until_asleep()
    alarm.set(None)
    await clock.advance(10)
    assert rings == []
