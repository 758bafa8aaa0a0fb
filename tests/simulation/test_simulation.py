"""A few hundred seeds, and that a seed is one run and can be repeated.

`HF_AGENT_SIM_SEEDS=1-2000` runs others; `tests/simulation/run.py` runs many.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from simulation.scenario import run_seed

_SEEDS = os.environ.get("HF_AGENT_SIM_SEEDS", "1-200")
_JOBS = 2
_RUN = Path(__file__).with_name("run.py")
_ENOUGH_FOR_ALL_KINDS = 100


def test_whatever_happens_what_was_promised_holds() -> None:
    # In processes of their own: what a seed leaves in memory is not looked through for others.
    run = subprocess.run(
        [sys.executable, str(_RUN), "--seeds", _SEEDS, "--jobs", str(_JOBS)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(run.stdout)
    assert run.returncode == 0
    _meets_every_kind_of_trouble(run.stdout)


def _meets_every_kind_of_trouble(told: str) -> None:
    first, _, last = _SEEDS.partition("-")
    if int(last or first) - int(first) < _ENOUGH_FOR_ALL_KINDS:
        return
    met = Counter({kind: int(number) for kind, number in _pairs(told.splitlines()[-1])})
    wanted = (
        *("power-loss", "kill", "sigterm", "disk-full", "disk-error", "disk-slow", "short-write"),
        *("torn-tail", "no-start", "wal-failed", "freed", "rename", "clock-jump", "client-lost"),
        *("store-away", "store-refused", "store-expired", "store-fail-before", "store-fail-after"),
        *("store-late", "store-twice", "intruder-refused", "foreign-conflict"),
        *("commit", "stored", "ack", "read"),
    )
    assert [kind for kind in wanted if not met[kind]] == []


def _pairs(line: str) -> list[list[str]]:
    return [pair.split("=") for pair in line.split()]


def test_a_seed_that_fails_is_told_with_the_command_that_repeats_it(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import runpy, sys\n"
        f"sys.argv = [{str(_RUN)!r}, '--seeds', '7-8']\n"
        f"sys.path.insert(0, {str(_RUN.parents[1])!r})\n"
        "from simulation import scenario\n"
        "def run_seed(seed): raise AssertionError(f'lost by seed {seed}')\n"
        "scenario.run_seed = run_seed\n"
        f"runpy.run_path({str(_RUN)!r}, run_name='__main__')\n"
    )
    run = subprocess.run(
        [sys.executable, str(broken)], stdout=subprocess.PIPE, text=True, check=False
    )
    assert run.returncode == 1
    for seed in (7, 8):
        assert f"seed {seed} FAILED: AssertionError: lost by seed {seed}" in run.stdout
        assert f"python tests/simulation/run.py --replay {seed}\n" in run.stdout


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
