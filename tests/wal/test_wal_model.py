"""Random histories with crashes, against a plain model. A failing seed replays exactly."""

from __future__ import annotations

import pytest

from support.wal_model import ModelRun


@pytest.mark.parametrize("block", range(20))
def test_whatever_crashes_the_log_is_the_model_after_one_of_its_batches(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        print(f"seed={seed}")
        ModelRun(seed).run(150)


def test_the_same_seed_gives_the_same_run_twice() -> None:
    runs = [ModelRun(7), ModelRun(7)]
    for run in runs:
        run.run(200)
    assert runs[0].disk.calls == runs[1].disk.calls
    assert runs[0].trace == runs[1].trace
