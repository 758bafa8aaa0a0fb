"""What a process holds, sampled, and the table that comes of it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from soak.slope import MIN_SAMPLES, Tolerance, rise
from support.agent_process import AgentProcess

__all__ = ["MEASURES", "Life", "Row", "sample", "table"]

MIB = float(1 << 20)
MEASURES: Mapping[str, Tolerance] = {
    "RSS, MiB": Tolerance(8.0, 0.06),
    "open descriptors": Tolerance(4),
    "asyncio tasks": Tolerance(6),
    "threads": Tolerance(2),
    "WAL files": Tolerance(4),
    "WAL size, MiB": Tolerance(6),
}
"""What is sampled, and what it may rise by over the second half of one life of the process."""
_TASKS = re.compile(r"^hf_agent_asyncio_tasks (\S+)$", re.M)


@dataclass
class Life:
    """The samples of one life of the process."""

    times: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})

    def add(self, values: Mapping[str, float]) -> None:
        """Add one sample of now."""
        self.times.append(time.monotonic())
        for name, value in values.items():
            self.values[name].append(value)


def sample(agent: AgentProcess) -> dict[str, float]:
    """One sample of a running agent. Raises `OSError`, `psutil.Error` when it is gone."""
    process = psutil.Process(agent.pid)
    status, text = agent.get("/metrics")
    found = _TASKS.search(text)
    assert status == 200 and found, text
    sizes = [path.stat().st_size for path in agent.wal_files()]
    with process.oneshot():
        return {
            "RSS, MiB": process.memory_info().rss / MIB,
            "open descriptors": process.num_fds(),
            "asyncio tasks": float(found[1]),
            "threads": process.num_threads(),
            "WAL files": len(sizes),
            "WAL size, MiB": sum(sizes) / MIB,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One measure over the whole soak."""

    name: str
    first: float
    last: float
    peak: float
    rise: float
    """The largest one over the second half of a life."""
    grows: bool


def table(lives: Sequence[Life], measures: Mapping[str, Tolerance] = MEASURES) -> list[Row]:
    """A row for each measure. Raises `ValueError` when no life is long enough to tell growth."""
    long = [life for life in lives if len(life.times) >= MIN_SAMPLES]
    if not long:
        raise ValueError("no life of the process is long enough; soak longer, or sample more often")
    rows = []
    for name, tolerance in measures.items():
        every = [value for life in lives for value in life.values[name]]
        rises = [rise(life.times, life.values[name]) for life in long]
        grows = any(not tolerance.allows(*each) for each in rises)
        worst = max(each for each, _ in rises)
        rows.append(Row(name, every[0], every[-1], max(every), worst, grows))
    return rows
