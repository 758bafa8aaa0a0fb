"""Parsers on damaged and on valid input. Longer: `HF_AGENT_FUZZ_SECONDS=300`, for each parser.

A failure prints its seed; `HF_AGENT_FUZZ_SEED` begins with it.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import checks
from fuzz.checks import check, check_bounds
from fuzz.mutation import mutated
from fuzz.targets import TARGETS, Target

SECONDS = float(os.environ.get("HF_AGENT_FUZZ_SECONDS", "0"))
SEED = os.environ.get("HF_AGENT_FUZZ_SEED")
CASES = 300
"""When no time is given."""


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.timeout(SECONDS + 300)
def test_damaged_bytes_are_the_same_events_in_any_pieces_within_bounds(name: str) -> None:
    target = TARGETS[name]
    first = int(SEED) if SEED else random.SystemRandom().getrandbits(32)
    ends = time.monotonic() + SECONDS
    number = 0
    while number < CASES or time.monotonic() < ends:
        seed = first + number
        rng = random.Random(seed)
        data = mutated(rng, target.corpus)
        try:
            check(target, data, rng)
            if number % 10 == 0:
                check_bounds(target, data)
        except BaseException:
            print(f"HF_AGENT_FUZZ_SEED={seed} {name}: {data!r}")
            raise
        number += 1
    print(f"{name}: {number} cases from seed {first} on")


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=max(40, int(SECONDS * 20)), deadline=None)
@given(data=st.data())
def test_valid_structures_are_taken_in_any_pieces(name: str, data: Any) -> None:
    target = TARGETS[name]
    wire = data.draw(target.structures) * data.draw(st.integers(1, 3))
    events = check(target, wire, random.Random(data.draw(st.integers(0, 1 << 32))))
    assert events and events[-1] not in ("malformed", "frame_too_large")


# The checks themselves can fail.


def stub(events: Any) -> Target:
    return Target(events, (b"x",), st.just(b"x"), held=1000)


def test_events_that_depend_on_the_pieces_are_found() -> None:
    with pytest.raises(AssertionError, match="in pieces"):
        check(stub(len), b"x" * 100, random.Random(1))


def test_memory_that_is_only_declared_is_found() -> None:
    with pytest.raises(AssertionError, match="bytes of memory"):
        check_bounds(stub(lambda pieces: [bytes(1 << 20)]), b"x")


def test_work_that_grows_faster_than_the_input_is_found() -> None:
    def quadratic(pieces: list[bytes]) -> list[int]:
        return [abs(a) for piece in pieces for a in range(len(piece) * checks.CALLS_PER_BYTE)]

    with pytest.raises(AssertionError, match="calls"):
        check_bounds(stub(lambda pieces: quadratic(pieces * 2)), b"x" * 1000)


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris has no wheel for this platform")
@pytest.mark.parametrize("name", [*TARGETS] if SECONDS else ["all"])
@pytest.mark.timeout(SECONDS + 300)
def test_guided_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    script = Path(__file__).with_name("guided.py")
    how_long = f"-max_total_time={int(SECONDS)}" if SECONDS else f"-runs={2 * CASES}"
    done = subprocess.run(
        [sys.executable, str(script), name, how_long, f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
    )
    (runs,) = re.findall(r"Done (\d+) runs", done.stderr) or [""]
    print(f"{name}: {runs} runs")
    assert done.returncode == 0 and runs, done.stdout + done.stderr
