"""Keeps a log readable while the same thing happens over and over."""

from __future__ import annotations

from typing import Final

from hf_agent.clock import Clock

__all__ = ["LogLimiter"]

_INTERVAL: Final = 60.0
"""Seconds between two lines about the same thing."""


class LogLimiter:
    """Says when a thing is worth a line: at once when it begins, then once in a while.

    Memory is bounded by the keys, which should be few and known.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: dict[str, tuple[float, int]] = {}
        """When a line was last due, and how often the thing has happened since."""

    def due(self, key: str) -> int:
        """It happened: how often since the last line, this time included; 0: no line now."""
        now = self._clock.monotonic()
        last, times = self._since.get(key, (now - _INTERVAL, 0))
        if now - last < _INTERVAL:
            self._since[key] = (last, times + 1)
            return 0
        self._since[key] = (now, 0)
        return times + 1
