"""Every bug that is put in on purpose is found, within so many seeds.

`HF_AGENT_SIM_MUTATION_SEEDS=500` tries more before a mutation is said to have survived.
"""

from __future__ import annotations

import gc
import os

import pytest

from hf_agent.wal import WalError
from simulation.mutations import MUTATIONS, Mutation
from simulation.scenario import run_seed
from support.wal_model import ModelRun

_SEEDS = int(os.environ.get("HF_AGENT_SIM_MUTATION_SEEDS", "120"))


@pytest.mark.timeout(1200)  # one that is nearly not found, on a machine that is busy
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    for edit in mutation.edits:
        edit.apply(monkeypatch)
    for seed in (mutation.first, *range(1, _SEEDS)):
        try:
            if mutation.suite == "simulation":
                run_seed(seed)
            else:
                ModelRun(seed).run(400)
        except (AssertionError, WalError) as found:
            print(f"seed {seed}: {found}")
            return
        finally:
            gc.collect()
    pytest.fail(f"survived {_SEEDS} seeds")
