"""When streams are flushed."""

from __future__ import annotations

import random

from hf_agent.flusher.backoff import Backoff
from hf_agent.flusher.schedule import Schedule


def schedule(concurrency: int = 2) -> Schedule:
    return Schedule(interval=5.0, concurrency=concurrency)


def test_a_dirty_stream_starts_when_its_oldest_byte_is_as_old_as_the_interval() -> None:
    plan = schedule()
    plan.dirty("a", 100.0)
    plan.dirty("a", 103.0)
    assert plan.next_wake() == 105.0
    assert plan.start(104.9) is None
    assert plan.start(105.0) == "a"
    assert plan.start(105.0) is None


def test_an_urged_stream_starts_at_once_and_once() -> None:
    plan = schedule()
    plan.dirty("a", 100.0)
    plan.urge("a")
    plan.urge("a")
    assert plan.start(100.0) == "a"
    assert plan.start(200.0) is None


def test_no_more_run_at_once_than_allowed() -> None:
    plan = schedule(concurrency=2)
    for name in "abc":
        plan.urge(name)
    assert [plan.start(0.0), plan.start(0.0), plan.start(0.0)] == ["a", "b", None]
    plan.finished("a", 1.0, dirty=False, urgent=False)
    assert plan.start(1.0) == "c"


def test_a_stream_urged_while_it_runs_runs_again() -> None:
    plan = schedule()
    plan.urge("a")
    assert plan.start(0.0) == "a"
    plan.urge("a")
    assert plan.start(0.0) is None
    plan.finished("a", 1.0, dirty=True, urgent=False)
    assert plan.start(1.0) == "a"


def test_what_is_left_after_a_flush_waits_a_whole_interval() -> None:
    plan = schedule()
    plan.urge("a")
    plan.start(0.0)
    plan.dirty("a", 0.5)
    plan.finished("a", 1.0, dirty=True, urgent=False)
    assert plan.start(5.9) is None
    assert plan.start(6.0) == "a"


def test_a_backlog_takes_turns_with_the_other_streams() -> None:
    plan = schedule(concurrency=1)
    plan.urge("a")
    plan.urge("b")
    assert plan.start(0.0) == "a"
    plan.finished("a", 1.0, dirty=True, urgent=True)
    assert plan.start(1.0) == "b"
    plan.finished("b", 2.0, dirty=False, urgent=False)
    assert plan.start(2.0) == "a"


def test_a_failed_stream_waits_out_its_delay_even_when_it_is_urged() -> None:
    plan = schedule()
    plan.urge("a")
    plan.start(0.0)
    plan.failed("a", 10.0, gate=None)
    plan.urge("a")
    assert plan.next_wake() == 10.0
    assert plan.start(9.9) is None
    assert plan.start(10.0) == "a"


def test_force_overrules_the_delay_of_a_failed_stream() -> None:
    plan = schedule()
    plan.urge("a")
    plan.start(0.0)
    plan.failed("a", 1000.0, gate=1000.0)
    plan.urge("a", force=True)
    assert plan.start(0.1) == "a"
    plan.finished("a", 0.2, dirty=False, urgent=False)
    assert plan.start(1000.0) is None


def test_while_the_store_is_away_one_flush_probes_it_and_no_other_runs() -> None:
    plan = schedule(concurrency=4)
    for name in "abcd":
        plan.urge(name)
    assert plan.start(0.0) == "a"
    plan.failed("a", 50.0, gate=2.0)
    assert plan.start(1.9) is None
    assert plan.next_wake() == 2.0
    assert plan.start(2.0) == "b"
    assert plan.start(2.0) is None
    plan.finished("b", 3.0, dirty=False, urgent=False)
    assert [plan.start(3.0), plan.start(3.0)] == ["c", "d"]


def test_a_refused_stream_does_not_hold_up_the_others() -> None:
    plan = schedule()
    plan.urge("a")
    plan.urge("b")
    assert plan.start(0.0) == "a"
    plan.failed("a", 60.0, gate=None)
    assert plan.start(0.0) == "b"


def test_random_events_never_lose_a_stream_nor_run_it_twice() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        plan = schedule(concurrency=rng.randint(1, 4))
        dirty: set[str] = set()
        now = 0.0
        for _ in range(300):
            now += rng.random()
            name = rng.choice("abcdef")
            event = rng.random()
            if event < 0.4:
                dirty.add(name)
                plan.dirty(name, now)
            elif event < 0.5 and name in dirty:
                plan.urge(name, force=rng.random() < 0.3)
            elif (started := plan.start(now)) is not None:
                assert started in dirty, seed
                assert len(plan.running) <= plan.concurrency, seed
            if plan.running and rng.random() < 0.5:
                done = rng.choice(sorted(plan.running))
                outcome = rng.random()
                if outcome < 0.5:
                    dirty.discard(done)
                    plan.finished(done, now, dirty=False, urgent=False)
                elif outcome < 0.7:
                    plan.finished(done, now, dirty=True, urgent=rng.random() < 0.5)
                else:
                    gate = now + rng.random() if rng.random() < 0.5 else None
                    plan.failed(done, now + rng.random() * 3, gate=gate)
        for _ in range(10_000):
            if not dirty:
                break
            if (started := plan.start(now)) is not None or plan.running:
                for done in list(plan.running):
                    dirty.discard(done)
                    plan.finished(done, now, dirty=False, urgent=False)
                continue
            wake = plan.next_wake()
            if wake is None:
                break
            now = max(now, wake)
        assert not dirty, f"seed={seed}"


def test_delays_double_up_to_the_longest_and_are_jittered_within_half() -> None:
    backoff = Backoff(0.5, 8.0, random.Random(7))
    delays = [backoff.failed() for _ in range(8)]
    for delay, step in zip(delays, [0.5, 1, 2, 4, 8, 8, 8, 8], strict=True):
        assert step / 2 <= delay <= step
    backoff.succeeded()
    assert backoff.failed() <= 0.5
