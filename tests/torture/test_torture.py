"""A small torture of the real agent in every run of the tests; `run.py` makes large ones.

`HF_TORTURE_KILLS` says how many kills each of these makes, `HF_TORTURE_SEED` repeats one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from support.s3_servers.minio import HOW_TO_GET_MINIO, find_minio
from torture.ballast import can_mount
from torture.forked_agent import ForkedAgent, Nursery
from torture.lives import TROUBLES
from torture.mutants import MUTANTS
from torture.nursery import Order
from torture.torturer import Plan, torture

KILLS = int(os.environ.get("HF_TORTURE_KILLS", "0"))


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("HF_TORTURE_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"replay: HF_TORTURE_SEED={seed}")
    return seed


_ATTEMPTS = 8


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["directory", "moto", "minio"])
def test_whatever_befalls_the_agent_all_that_it_acknowledged_is_stored_once(
    tmp_path: Path, seed: int, store: str
) -> None:
    if store == "minio" and find_minio() is None:
        pytest.skip(HOW_TO_GET_MINIO)
    kills = KILLS or (8 if store == "directory" else 4)
    figures = torture(Plan(store, kills=kills, seed=seed), tmp_path / "torture")
    print(figures)
    assert figures["kills"] >= kills
    assert figures["of them with more than before"], "a reader has seen it grow"
    assert figures["appends"] and figures["forward chunks"] and figures["lines"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_file_system_that_fills_up_loses_nothing(tmp_path: Path, seed: int) -> None:
    if reason := can_mount(tmp_path):
        pytest.skip(reason)
    plan = Plan(kills=KILLS or 4, seed=seed, troubles=("none",), tmpfs=8 << 20)
    torture(plan, tmp_path / "torture")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_an_agent_with_a_bug_is_found(tmp_path: Path, seed: int, mutant: str) -> None:
    # A kill has to come between an acknowledgement and its write: not every short run has one.
    with pytest.raises(AssertionError, match=r"lost|doubled|forward|fwd"):
        for attempt in range(_ATTEMPTS):
            plan = Plan(
                kills=KILLS or 4,
                seed=seed + attempt,
                troubles=("none",),
                always=(("mutant", mutant),),
            )
            torture(plan, tmp_path / f"torture-{attempt}")


def test_every_kind_of_trouble_is_drawn() -> None:
    from torture.lives import ENDS, lives

    drawn = [life for life, _ in zip(lives(1, TROUBLES, s3=False), range(300), strict=False)]
    assert {life.end for life in drawn} == set(ENDS)
    for name in ("point", "wal_errors", "store_errors", "short_writes", "file_limit"):
        assert any(name in life.trouble for life in drawn)


def test_an_agent_that_dies_at_once_is_still_known_by_its_number(tmp_path: Path) -> None:
    """The nursery reaped it, and the driver then found no such process."""
    with Nursery() as nursery:
        agent = ForkedAgent(nursery, tmp_path / "a")
        order = Order(str(tmp_path / "missing.toml"), str(tmp_path / "log"))
        for _ in range(3):
            pid = nursery.order(order)
            answer = nursery.answer(60)
            assert answer == "ended 1"
            os.close(os.pidfd_open(pid))
        agent.begin()
        agent.kill()
        assert agent.status == -9
