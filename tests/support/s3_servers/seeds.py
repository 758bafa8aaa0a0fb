"""Which fault seeds a run uses, and how a failing one is replayed.

`HF_AGENT_FAULT_SEEDS` is a count (seeds 1 to N), or a list, which has a comma: `17,23` or `17,`.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from support.s3_servers.faults import FaultPlan

__all__ = ["fault_seeds", "reported", "seed_for"]

_VARIABLE = "HF_AGENT_FAULT_SEEDS"


def fault_seeds(default: int) -> list[int]:
    """The seeds of this run; `default` of them where nothing is said."""
    said = os.environ.get(_VARIABLE, "").strip()
    if "," in said:
        return [int(seed) for seed in said.split(",") if seed.strip()]
    return list(range(1, int(said or default) + 1))


def seed_for(seed: int, name: str) -> int:
    """Another seed for each `name`: so a suite of many short tests meets many."""
    return zlib.crc32(f"{seed} {name}".encode())


@contextmanager
def reported(seed: int, node_id: str, plan: FaultPlan) -> Iterator[None]:
    """Prints how to replay, and what went wrong; pytest shows it for tests that fail."""
    print(f"replay: {_VARIABLE}={seed}, python -m pytest '{node_id}'")
    try:
        yield
    finally:
        print(f"{len(plan.log)} faults (operation, which request of it, fault, amount):")
        for fault in plan.log:
            print(f"  {fault}")
