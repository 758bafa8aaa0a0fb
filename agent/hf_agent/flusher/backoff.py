"""Delays between tries: exponential, capped, with full jitter."""

from __future__ import annotations

import random

__all__ = ["Backoff"]


class Backoff:
    """The delays of one thing that is tried again. Seconds."""

    def __init__(self, first: float, longest: float, rng: random.Random) -> None:
        self._first = first
        self._longest = longest
        self._rng = rng
        self.failures = 0

    def failed(self, *, slowly: bool = False) -> float:
        """Count a failure; returns how long to wait before the next try.

        With `slowly`, the longest step is taken at once: somebody has to do something first.
        """
        growing = min(self._longest, self._first * 2.0 ** min(self.failures, 60))
        step = self._longest if slowly else growing
        self.failures += 1
        # Between half of the step and the whole of it, so that a thousand nodes that lost the
        # store at the same moment do not come back at the same moment.
        return step * (0.5 + self._rng.random() / 2)

    def reconfigure(self, first: float, longest: float) -> None:
        """Take other delays over, from the next failure on."""
        self._first = first
        self._longest = longest

    def succeeded(self) -> None:
        """Start from the shortest delay again."""
        self.failures = 0
