"""Requests that are sent again when no answer came."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from hf_agent.store.base import StoreConflict, StoreNotFound, StoreRefused, StoreRetry
from hf_agent.store.patient import patient
from hf_agent.store.preflight import preflight
from support.memory_store import Call, MemoryStore
from support.skipping_clock import SkippingClock


def failing(times: int, operation: str = "") -> Callable[[Call], None]:
    """Fails the next calls of an operation, or of any."""

    def hook(call: Call) -> None:
        nonlocal times
        if times and operation in ("", call.operation):
            times -= 1
            raise StoreRetry("no answer")

    return hook


async def test_a_store_that_never_answered_is_reported_at_once() -> None:
    store, clock = MemoryStore(), SkippingClock()
    store.before = failing(1)
    with pytest.raises(StoreRetry):
        await patient(store, clock=clock, rng=random.Random(1)).head("k")
    assert len(store.calls) == 1
    assert clock.slept == []


async def test_once_it_has_answered_a_request_is_sent_again_after_growing_pauses() -> None:
    store, clock = MemoryStore(), SkippingClock()
    store.put("k", b"v")
    tried = patient(store, clock=clock, rng=random.Random(1))
    with pytest.raises(StoreNotFound):
        await tried.head("absent")
    store.before = failing(4)
    assert (await tried.get("k")).data == b"v"
    assert clock.slept == sorted(clock.slept)
    assert len(clock.slept) == 4
    store.before = failing(5)
    with pytest.raises(StoreRetry):
        await tried.get("k")
    assert len(store.calls) == 1 + 5 + 5


async def test_refusals_and_conflicts_are_not_sent_again() -> None:
    store = MemoryStore()
    store.put("k", b"v")
    tried = patient(store, clock=SkippingClock(), rng=random.Random(1))
    with pytest.raises(StoreConflict):
        await tried.create("k", b"w")

    def refuse(call: Call) -> None:
        raise StoreRefused("access denied")

    store.before = refuse
    with pytest.raises(StoreRefused):
        await tried.replace("k", b"w", etag="e")
    assert len(store.calls) == 2


async def test_a_listing_that_breaks_off_is_begun_again() -> None:
    store = MemoryStore()
    store.put("k", b"v")
    tried = patient(store, clock=SkippingClock(), rng=random.Random(1))
    await tried.head("k")
    store.after = failing(2, "list")
    assert len([item async for item in tried.list()]) == 1
    assert len(store.written("list")) == 3


@pytest.mark.parametrize("seed", range(20))
async def test_a_preflight_gets_through_where_one_request_in_ten_fails(seed: int) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    store, clock = MemoryStore(), SkippingClock()

    def fault(call: Call) -> None:
        if len(store.calls) > 1 and rng.random() < 0.05:
            raise StoreRetry("no answer")

    store.before = store.after = fault
    await preflight(patient(store, clock=clock, rng=rng), "scratch")
    assert clock.slept, "nothing went wrong: the test shows nothing"
    assert store.objects == {}
