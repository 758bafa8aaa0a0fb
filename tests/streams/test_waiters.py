"""Who is called when a batch is durable or a position is stored."""

from __future__ import annotations

import random
from functools import partial

from hf_agent.streams.waiters import BatchWaiters, PositionWaiters


def test_callbacks_come_out_once_and_in_the_order_of_their_batches() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        waiters = BatchWaiters()
        called: list[tuple[int, int]] = []
        asked: list[tuple[int, int]] = []
        for step in range(200):
            batch = rng.randint(1, 60)
            asked.append((batch, step))
            waiters.add(batch, partial(called.append, (batch, step)))
        reached = 0
        while reached < 60:
            reached += rng.randint(1, 9)
            for callback in waiters.reached(reached):
                callback()
            assert called == sorted(item for item in asked if item[0] <= reached), f"seed={seed}"
        assert not len(waiters)


def test_positions_are_reached_from_the_lowest_on() -> None:
    waiters = PositionWaiters()
    called: list[int] = []
    for position in (30, 10, 20, 10):
        waiters.add(position, partial(called.append, position))
    for callback in waiters.reached(20):
        callback()
    assert called == [10, 10, 20]
    assert len(waiters) == 1
    assert [callback() for callback in waiters.reached(29)] == []
    assert waiters
