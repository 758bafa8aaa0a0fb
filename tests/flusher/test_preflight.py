"""The store is proven once before anything is flushed, however long that takes."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
import structlog

from hf_agent.flusher.preflight import Preflight
from hf_agent.metrics import Metrics
from hf_agent.store.base import StoreConflict, StoreError, StoreRefused, StoreRetry
from hf_agent.store.observer import coded
from support.flushing import Flushing
from support.manual_clock import ManualClock
from support.memory_store import MemoryStore
from support.skipping_clock import SkippingClock


class Store:
    """Answers each preflight with the next of a list of errors, then lets it pass."""

    def __init__(self, *answers: BaseException | None) -> None:
        self.answers = list(answers)
        self.tries = 0

    async def __call__(self) -> None:
        self.tries += 1
        if self.answers and (answer := self.answers.pop(0)) is not None:
            raise answer


def preflight_of(
    store: Store, clock: SkippingClock | ManualClock, defects: list[BaseException] | None = None
) -> tuple[Preflight, Metrics]:
    metrics = Metrics()
    preflight = Preflight(
        store,
        retry_min=0.2,
        retry_max=30.0,
        clock=clock,
        rng=random.Random(1),
        metrics=metrics,
        on_defect=(defects if defects is not None else []).append,
    )
    return preflight, metrics


def slow_down(number: int) -> StoreError:
    return coded(StoreRetry(f"create failed: slow down key=k request_id={number}"), "SlowDown")


def no_bucket(number: int) -> StoreError:
    return coded(StoreRefused(f"create failed: no bucket key=k{number}"), "NoSuchBucket")


def value(metrics: Metrics, result: str) -> int:
    return int(metrics.store_preflights.labels(result)._value.get())


async def test_a_store_that_passes_is_asked_once() -> None:
    store = Store()
    preflight, metrics = preflight_of(store, SkippingClock())
    assert preflight.state == "pending"
    await preflight.run()
    assert store.tries == 1
    assert (preflight.state, preflight.reason) == ("passed", "")
    assert preflight.passed.is_set()
    assert metrics.store_preflight_passed._value.get() == 1
    assert value(metrics, "ok") == 1


async def test_a_store_that_is_away_is_asked_with_growing_pauses_that_have_an_end() -> None:
    clock = SkippingClock()
    preflight, metrics = preflight_of(Store(*map(slow_down, range(40))), clock)
    states = []
    clock.on_sleep = lambda seconds: states.append(
        (preflight.state, "slow down" in preflight.reason)
    )
    await preflight.run()
    assert set(states) == {("away", True)}
    assert 0.1 <= clock.slept[0] <= 0.2
    assert all(15 <= pause <= 30 for pause in clock.slept[10:])
    assert value(metrics, "retry") == 40


async def test_a_store_that_refuses_is_asked_slowly_from_the_first_time_on() -> None:
    clock = SkippingClock()
    preflight, metrics = preflight_of(Store(*map(no_bucket, range(5))), clock)
    states = []
    clock.on_sleep = lambda seconds: states.append(preflight.state)
    await preflight.run()
    assert set(states) == {"refused"}
    assert all(15 <= pause <= 30 for pause in clock.slept)
    assert value(metrics, "refused") == 5


async def test_each_reason_is_logged_once_per_change_and_not_per_try() -> None:
    denied = coded(StoreRefused("head failed: allow s3:ListBucket key=k"), "AccessDenied")
    other = coded(StoreRefused("delete failed: allow s3:DeleteObject key=k"), "AccessDenied")
    answers = [slow_down(1), slow_down(2), no_bucket(3), no_bucket(4), denied, other, slow_down(5)]
    preflight, _ = preflight_of(Store(*answers), SkippingClock())
    with structlog.testing.capture_logs() as logs:
        await preflight.run()
    told = [(entry["log_level"], entry.get("reason", "").partition(":")[0]) for entry in logs]
    assert told == [
        ("warning", "create failed"),
        ("error", "create failed"),
        ("error", "head failed"),
        ("error", "delete failed"),
        ("warning", "create failed"),
        ("info", ""),
    ]
    assert logs[-1]["failures"] == len(answers)


async def test_an_error_that_no_store_should_give_here_is_a_refusal() -> None:
    clock = SkippingClock()
    preflight, _ = preflight_of(Store(StoreConflict("changed key=k")), clock)
    seen = []
    clock.on_sleep = lambda seconds: seen.append(preflight.state)
    await preflight.run()
    assert seen == ["refused"]


async def test_a_defect_is_reported_and_the_preflight_is_not_taken_for_passed() -> None:
    defects: list[BaseException] = []
    error = TypeError("oops")
    clock = SkippingClock()
    preflight, _ = preflight_of(Store(error), clock, defects)
    passed = []
    clock.on_sleep = lambda seconds: passed.append(preflight.passed.is_set())
    await preflight.run()
    assert defects == [error]
    assert passed == [False]


async def test_somebody_in_a_hurry_need_not_wait_for_the_pause_to_end() -> None:
    store, clock = Store(no_bucket(1)), ManualClock()
    preflight, _ = preflight_of(store, clock)
    run = asyncio.ensure_future(preflight.run())
    await clock.until_asleep()
    assert store.tries == 1
    preflight.hurry()
    await asyncio.wait_for(run, 30)
    assert store.tries == 2


async def test_new_delays_count_from_the_next_failure_on() -> None:
    clock = SkippingClock()
    preflight, _ = preflight_of(Store(*map(no_bucket, range(3))), clock)
    clock.on_sleep = lambda seconds: preflight.reconfigure(0.1, 1.0)
    await preflight.run()
    assert clock.slept[0] >= 15
    assert all(pause <= 1 for pause in clock.slept[1:])


async def test_nothing_is_flushed_before_the_store_has_passed(tmp_path: Path) -> None:
    clock = ManualClock()
    preflight, _ = preflight_of(Store(no_bucket(1), no_bucket(2)), clock)
    store = MemoryStore()
    agent = Flushing(tmp_path / "wal", store, preflight=preflight)
    await agent.start()
    await agent.put("app", b"kept")
    agent.flusher.urge("app")
    agent.flusher.relieve_wal()
    await clock.until_asleep()
    await clock.advance(14)
    assert store.calls == []
    await clock.advance(16)
    await clock.until_asleep()
    assert store.calls == []
    # A client that asks for a flush does not wait for the pause to end.
    await agent.flush("app")
    assert preflight.state == "passed"
    assert await agent.stored("n/app") == b"kept"
    await agent.stop()


@pytest.mark.parametrize("answer", [slow_down(1), no_bucket(1)])
async def test_a_stop_does_not_wait_for_a_store_that_has_not_passed(
    tmp_path: Path, answer: StoreError
) -> None:
    clock = ManualClock()
    preflight, _ = preflight_of(Store(answer), clock)
    agent = await Flushing(tmp_path / "wal", MemoryStore(), preflight=preflight).start()
    await clock.until_asleep()
    await asyncio.wait_for(agent.stop(), 30)
