"""The last minutes as rates: a fixed number of points, each made of sums at two moments.

Nothing is counted for it: the sums are those that the metrics have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from hf_agent.tallies import quantile

__all__ = ["POINTS", "STEP", "History", "Sums"]

STEP: Final = 2.0
"""Seconds between two points."""
POINTS: Final = 300
"""Points kept: ten minutes."""


class Sums(NamedTuple):
    """Since the start of the process, but for `wal_bytes`."""

    received_records: int
    received_bytes: int
    flushed_bytes: int
    wal_bytes: int
    latencies: Sequence[int]
    """Appends by bucket of `append_duration_seconds`; not cumulated."""


class Point(NamedTuple):
    """Per second, and seconds."""

    received_records: float
    received_bytes: float
    flushed_bytes: float
    wal_bytes: int
    latency_p50: float | None
    """None when nothing was acknowledged."""
    latency_p99: float | None


class History:
    """Call `tick` about once a second."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` of the latencies' buckets, in seconds."""
        self._bounds = bounds
        self._at = 0.0
        self._sums: Sums | None = None
        self._points: deque[Point] = deque(maxlen=POINTS)

    def due(self, now: float) -> bool:
        """Whether the next point is due; `now` is the clock's `monotonic`."""
        # Ticks come a little late, each: half a tick early is on time.
        return self._sums is None or now - self._at >= STEP - 0.5

    def take(self, now: float, sums: Sums) -> None:
        """Make a point of what there is now and what there was at the last one."""
        before, elapsed = self._sums, now - self._at
        self._sums, self._at = sums, now
        if before is None or elapsed <= 0:
            return
        counts = [new - old for new, old in zip(sums.latencies, before.latencies, strict=True)]
        self._points.append(
            Point(
                (sums.received_records - before.received_records) / elapsed,
                (sums.received_bytes - before.received_bytes) / elapsed,
                (sums.flushed_bytes - before.flushed_bytes) / elapsed,
                sums.wal_bytes,
                quantile(self._bounds, counts, 0.5),
                quantile(self._bounds, counts, 0.99),
            )
        )

    def describe(self) -> dict[str, Any]:
        """Each series, oldest point first, as plain JSON types."""
        columns = zip(*self._points, strict=True) if self._points else [()] * len(Point._fields)
        series = {
            name: [value if value is None else _short(value) for value in column]
            for name, column in zip(Point._fields, columns, strict=True)
        }
        return {"step_seconds": STEP, "points": POINTS, **series}


def _short(value: float) -> float:
    """A number that takes no more room than a picture of it needs."""
    return round(value) if value >= 100 else float(f"{value:.3g}")
