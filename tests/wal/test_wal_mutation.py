"""Every damage to a log of a known content: recovered exactly, or refused, and then repaired.

For each, the opening either gives exactly what was acknowledged (but for a last batch that was hit
itself, which looks like an unfinished write), or refuses and names file and offset, at the latest
when the bytes are read. Then `wal repair` keeps everything that is intact, and the log goes on.

In CI: every byte of heads, record headers, indexes and footers, and a sample of all others; lengths
around every border; all rearrangements. `HF_AGENT_WAL_MUTATION=bytes` takes every byte, with one
changed value each, and every length: 65,536 cases, three and a half minutes of one processor.
`=bits` flips every bit of every byte: 262,144 cases more. `HF_AGENT_WAL_MUTATION_SHARD=2/4` takes
the third quarter of the cases, for running them side by side.
"""

from __future__ import annotations

import os
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from support.wal_mutation import Damaged, KnownLog, judge

MODE = os.environ.get("HF_AGENT_WAL_MUTATION", "sample")
SHARD, SHARDS = map(int, os.environ.get("HF_AGENT_WAL_MUTATION_SHARD", "0/1").split("/"))
SEED = 7

pytestmark = pytest.mark.timeout(900 if MODE == "sample" else 0)

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def torn() -> KnownLog:
    return KnownLog(torn=True)


@pytest.fixture(scope="module")
def clean() -> KnownLog:
    return KnownLog(torn=False)


def shard(cases: Sequence[_T]) -> Sequence[_T]:
    return cases[len(cases) * SHARD // SHARDS : len(cases) * (SHARD + 1) // SHARDS]


def run(log: KnownLog, cases: Sequence[_T], make: Callable[[_T], Damaged], *outcomes: str) -> None:
    """Judge every case; each of `outcomes` must occur, or the cases cover too little."""
    counts = Counter(
        judge(log, make(case), thorough=MODE == "bits" or number % 8 == 0)
        for number, case in enumerate(shard(cases))
    )
    print(f"{sum(counts.values())} cases: {dict(counts)}")
    assert counts.keys() <= set(outcomes)
    assert SHARDS > 1 or counts.keys() == set(outcomes)


def places(log: KnownLog, files: Sequence[str], sample: int) -> list[tuple[str, int, int]]:
    """File, offset and mask of the bytes to change, by the mode."""
    rng = random.Random(SEED)
    everything = [(file, at) for file in files for at in range(len(log.image[file]))]
    if MODE == "bits":
        return [(file, at, 1 << bit) for file, at in everything for bit in range(8)]
    if MODE != "bytes":
        structure = [place for place in log.structure() if place[0] in files]
        everything = structure + rng.sample(everything, sample)
    return [(file, at, rng.randrange(1, 256)) for file, at in everything]


def test_every_byte_flipped(torn: KnownLog) -> None:
    run(
        torn,
        places(torn, torn.files, 300),
        lambda case: torn.flipped(*case),
        *("exact", "refused", "refused when read"),
    )


def test_every_byte_of_the_newest_file_flipped_where_nothing_stands_behind_the_last_batch(
    clean: KnownLog,
) -> None:
    run(
        clean,
        places(clean, clean.files[-1:], 50),
        lambda case: clean.flipped(*case),
        *("exact", "cut", "refused"),
    )


def test_every_length_of_every_file(torn: KnownLog) -> None:
    if MODE == "sample":
        cases = torn.borders()
    else:
        cases = [(file, at) for file in torn.files for at in range(len(torn.image[file]))]
    run(torn, cases, lambda case: torn.truncated(*case), "refused")


def test_every_length_of_the_newest_file_that_ends_with_its_last_batch(clean: KnownLog) -> None:
    newest = clean.files[-1]
    cases = [case for case in clean.borders() if case[0] == newest]
    if MODE != "sample":
        cases = [(newest, at) for at in range(len(clean.image[newest]))]
    run(clean, cases, lambda case: clean.truncated(*case), "refused")


@pytest.mark.parametrize("kind", ["torn", "clean"])
def test_files_swapped_doubled_and_removed(kind: str, request: pytest.FixtureRequest) -> None:
    log: KnownLog = request.getfixturevalue(kind)
    for damaged in log.rearranged():
        outcome = judge(log, damaged)
        assert outcome == "refused", damaged.name


def test_no_damage_makes_a_log_or_a_repair_allocate_much(torn: KnownLog) -> None:
    cases = random.Random(SEED).sample(torn.structure(), 10)
    for file, at in cases:
        damaged = torn.flipped(file, at, 0xFF)
        tracemalloc.start()
        judge(torn, damaged)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # The disk is in memory, too, twice: what is durable, and what is not.
        assert peak < 2 << 20, (damaged.name, peak)


def test_the_known_log_is_what_it_should_be(torn: KnownLog, clean: KnownLog) -> None:
    """Nothing of the above means anything when the log lacks what it is said to have."""
    for log in (torn, clean):
        kinds = {each.type for each in log.acknowledged}
        assert kinds == {1, 2, 3, 4, 5, 7}
        assert len(log.indexes) == 2
        assert max(log.whole.marks.values()) >= 1 << 63
        assert any(isinstance(key, bytes) for key in log.whole.marks)
        assert max(log.whole.committed.values()) > 0
        damaged = Damaged("none", log.image, intact=log.acknowledged)
        assert judge(log, damaged) == "exact"
