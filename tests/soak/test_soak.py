"""A short soak in every run of the tests; `HF_SOAK_SECONDS` makes it longer, `run.py` a real one.

Twenty seconds do not tell memory that grows from memory that warms up: this one only shows that
nothing is lost with each connection, and that all is stored.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from soak.sampling import MEASURES, Life, table
from soak.slope import MIN_SAMPLES, Tolerance
from soak.soaking import Soak, soak

SECONDS = float(os.environ.get("HF_SOAK_SECONDS", "20"))


SHORT = {
    "open descriptors": Tolerance(25),
    "asyncio tasks": Tolerance(25),
    "threads": Tolerance(8),
    "WAL files": Tolerance(8),
}
"""Visitors hold up to twenty connections; one that leaked for each of them would be far more."""


@pytest.mark.slow
@pytest.mark.timeout(max(900, int(10 * SECONDS)))
def test_a_loaded_agent_keeps_what_it_has_flat_and_stores_all(tmp_path: Path) -> None:
    short = SECONDS < 600
    plan = Soak(
        seconds=SECONDS,
        lives=1 if short else 2,
        interval=min(5.0, SECONDS / 50),
        seed=5,
        measures=SHORT if short else MEASURES,
    )
    report = soak(plan, tmp_path / "soak")
    print(report)
    assert not [row for row in report.rows if row.grows]
    assert report.figures["appends"] and report.figures["visits"]


def test_the_table_tells_what_grows_in_any_life() -> None:
    flat, leaking = Life(), Life()
    for life, slope in ((flat, 0.0), (leaking, 1.0)):
        life.times = [float(number) for number in range(2 * MIN_SAMPLES)]
        life.values = {name: [50 + slope * time for time in life.times] for name in MEASURES}
        life.values["threads"] = [9.0 for _ in life.times]
    assert not any(row.grows for row in table([flat, flat]))
    rows = {row.name: row for row in table([flat, leaking])}
    assert rows["open descriptors"].grows and rows["RSS, MiB"].grows
    assert not rows["threads"].grows
    assert (rows["open descriptors"].first, rows["open descriptors"].peak) == (50.0, 81.0)


def test_a_soak_that_is_too_short_is_refused() -> None:
    short = Life()
    with pytest.raises(ValueError, match="long enough"):
        table([short])
