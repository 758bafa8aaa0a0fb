"""A few hundred seeds, that a seed is one run, and that the checker sees what it is there for.

`HF_AGENT_SIM_SEEDS=1-2000` runs others; `tests/simulation/run.py` runs many.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulation.scenario import run_seed

_FIRST, _, _LAST = os.environ.get("HF_AGENT_SIM_SEEDS", "1-200").partition("-")
_SEEDS = range(int(_FIRST), int(_LAST or _FIRST) + 1)
_GROUP = 25
_RUN = Path(__file__).with_name("run.py")
_counts: Counter[str] = Counter()
"""What the seeds of this session have met, by kind."""


@pytest.fixture(autouse=True)
def small_collections() -> Iterator[None]:
    """What other tests have left in memory is not looked through for each seed."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("first", range(_SEEDS.start, _SEEDS.stop, _GROUP))
def test_whatever_happens_what_was_promised_holds(first: int) -> None:
    for seed in range(first, min(first + _GROUP, _SEEDS.stop)):
        print(f"replay: python tests/simulation/run.py --replay {seed}")
        _counts.update(run_seed(seed).counts)
        gc.collect()


def test_the_seeds_meet_every_kind_of_trouble() -> None:
    if len(_SEEDS) < 100:
        pytest.skip(f"only {len(_SEEDS)} seeds were asked for")
    wanted = (
        *("power-loss", "kill", "sigterm", "disk-full", "disk-error", "disk-slow", "short-write"),
        *("torn-tail", "no-start", "wal-failed", "freed", "rename", "clock-jump", "client-lost"),
        *("store-away", "store-refused", "store-expired", "store-fail-before", "store-fail-after"),
        *("store-late", "store-twice", "intruder-refused", "foreign-conflict"),
        *("commit", "stored", "ack", "read"),
    )
    assert [kind for kind in wanted if not _counts[kind]] == []


def test_a_seed_gives_the_same_trace_in_every_process() -> None:
    digests = set()
    for hash_seed in ("1", "2"):
        output = subprocess.run(
            [sys.executable, str(_RUN), "--replay", "40"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        digests.add(output)
    assert len(digests) == 1
    assert len({run_seed(40).digest for _ in range(2)}) == 1
    assert run_seed(40).digest in digests.pop()
