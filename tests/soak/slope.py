"""Whether a series grows: a robust slope of its second half, against a tolerance.

The first half is warm-up: caches fill, pools open. Theil-Sen, the median of the slopes between
pairs of samples, does not care about single spikes, nor about waves that go up and down.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

__all__ = ["MIN_SAMPLES", "Tolerance", "rise", "theil_sen"]

MIN_SAMPLES = 16
"""Fewer say nothing."""
_MOST = 240
"""Of longer series every n-th sample is taken: the pairs are many."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a series may rise by, over its second half."""

    absolute: float
    relative: float = 0.0
    """Of its median there; the larger one counts."""

    def allows(self, rise: float, median: float) -> bool:
        """Whether this is no growth."""
        return rise <= max(self.absolute, self.relative * median)


def theil_sen(times: Sequence[float], values: Sequence[float]) -> float:
    """The median slope of all pairs that lie half of the time apart, or more. `times` ascend.

    Of nearer ones, those within one tooth of a sawtooth would outvote the others.
    """
    apart = (times[-1] - times[0]) / 2
    slopes = [
        (values[second] - values[first]) / (times[second] - times[first])
        for first, second in combinations(range(len(times)), 2)
        if times[second] - times[first] >= apart
    ]
    return statistics.median(slopes)


def rise(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """By how much the second half rises from its beginning to its end, and its median.

    Raises `ValueError` for fewer than `MIN_SAMPLES` samples.
    """
    if len(times) < MIN_SAMPLES:
        raise ValueError(f"too few samples to tell growth samples={len(times)} min={MIN_SAMPLES}")
    half = len(times) // 2
    step = -(-(len(times) - half) // _MOST)
    times, values = times[half::step], values[half::step]
    return theil_sen(times, values) * (times[-1] - times[0]), statistics.median(values)
