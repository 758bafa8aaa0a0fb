"""Groups of lines that wait for more, by stream; the one that waits longest is the first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from hf_agent.ingest.lines.record import Moment

__all__ = ["Limits", "OpenGroup", "OpenGroups"]

T = TypeVar("T")


class Limits(NamedTuple):
    """How large a group becomes, and for how long it waits."""

    lines: int
    nbytes: int
    """A line that is longer is a group by itself."""
    seconds: float
    """From its first line on."""


@dataclass(slots=True)
class OpenGroup(Generic[T]):
    """Lines of one stream."""

    opened: Moment
    parts: list[T] = field(default_factory=list)
    lines: int = 0
    nbytes: int = 0


class OpenGroups(Generic[T]):
    """At most one open group for each stream."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0
        """Bytes in all open groups."""
        self._groups: dict[str, OpenGroup[T]] = {}

    def holds(self, stream: str) -> bool:
        """Whether a group of that stream is open."""
        return stream in self._groups

    @property
    def deadline(self) -> float | None:
        """When (monotonic) the oldest group has waited long enough; None: there is none."""
        for group in self._groups.values():
            return group.opened.monotonic + self.limits.seconds
        return None

    def full_for(self, stream: str, lines: int, nbytes: int) -> str:
        """Which limit keeps `lines` of `nbytes` out of the open group: `lines`, `bytes` or none."""
        group = self._groups.get(stream)
        if group is None:
            return ""
        if group.lines + lines > self.limits.lines:
            return "lines"
        return "bytes" if group.nbytes + nbytes > self.limits.nbytes else ""

    def add(self, stream: str, part: T, lines: int, nbytes: int, now: Moment) -> None:
        """Add to the open group, or open one."""
        group = self._groups.get(stream)
        if group is None:
            group = self._groups[stream] = OpenGroup(now)
        group.parts.append(part)
        group.lines += lines
        group.nbytes += nbytes
        self.held += nbytes

    def take(self, stream: str) -> OpenGroup[T] | None:
        """Close the group of that stream."""
        group = self._groups.pop(stream, None)
        if group is not None:
            self.held -= group.nbytes
        return group

    def older_than(self, now: float | None) -> list[str]:
        """Streams whose groups have waited long enough at `now`, oldest first; None: all."""
        return [
            stream
            for stream, group in self._groups.items()
            if now is None or group.opened.monotonic + self.limits.seconds <= now
        ]
