"""The last things that happened, a bounded number of each, for whoever looks at the agent.

Kept in memory only, and for people: the log and the metrics are the record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from structlog.typing import EventDict, WrappedLogger

__all__ = ["LAST_EVENTS", "LAST_FLUSHES", "Event", "FlushDone", "RecentEvents", "RecentFlushes"]

LAST_FLUSHES: Final = 50
"""Flushes remembered."""
LAST_EVENTS: Final = 50
"""Warnings and errors remembered."""
_MOST_CHARACTERS: Final = 500
"""Of one text of an event; store errors can be long."""
_LOUD: Final = frozenset({"warning", "warn", "error", "exception", "critical", "fatal"})
_SHOWN: Final = (
    *("stream", "socket", "protocol", "code", "result", "reason", "container", "sibling"),
    *("file", "offset", "bytes", "times", "path", "prefix", "seconds"),
)
"""Fields of a log line that are remembered; any other stays in the log."""


class FlushDone(NamedTuple):
    """One flush that committed something."""

    timestamp: float
    """Unix seconds."""
    stream: str
    bytes: int
    seconds: float
    container: str
    checkpoint: int


class RecentFlushes:
    """The last `LAST_FLUSHES` of them, and what all since the start came to."""

    def __init__(self) -> None:
        self.bytes = 0
        self._last: deque[FlushDone] = deque(maxlen=LAST_FLUSHES)

    def add(self, done: FlushDone) -> None:
        """Take note of one."""
        self.bytes += done.bytes
        self._last.append(done)

    def newest_first(self) -> list[dict[str, Any]]:
        """As plain JSON types."""
        return [done._asdict() for done in reversed(self._last)]


class Event(NamedTuple):
    """A warning or an error of the log."""

    timestamp: float
    """Unix seconds."""
    level: str
    """`warning` or `error`."""
    message: str
    fields: Mapping[str, str]


class RecentEvents:
    """A processor for structlog that remembers the last `LAST_EVENTS` warnings and errors.

    It comes before the level of the log is looked at, so that a quiet log hides nothing from it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        """`now` gives Unix seconds."""
        self._now = now
        self._last: deque[Event] = deque(maxlen=LAST_EVENTS)

    def __call__(self, logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
        if name in _LOUD:
            fields = {key: _text(event[key]) for key in _SHOWN if key in event}
            level = "warning" if name.startswith("warn") else "error"
            self._last.append(Event(self._now(), level, _text(event.get("event", "")), fields))
        return event

    def newest_first(self) -> list[dict[str, Any]]:
        """As plain JSON types."""
        return [event._asdict() for event in reversed(self._last)]


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
