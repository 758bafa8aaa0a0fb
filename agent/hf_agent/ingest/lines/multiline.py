"""Stage: lines joined to the line before them, unless they begin with a match of a pattern.

Lines of one connection follow each other, so a group is a piece of the input: most of the work is
done for whole groups, and for single lines only where a group comes to a limit.
"""

from __future__ import annotations

from collections.abc import Callable

from hf_agent.ingest.lines.open_groups import Limits, OpenGroups
from hf_agent.ingest.lines.record import Moment, Record
from hf_agent.ingest.lines.start_pattern import StartPattern

__all__ = ["Multiline"]

_ALL = ""
"""Lines that no container runtime wrote are all of one stream."""


class Multiline:
    """Joins lines. `ended` is told why each group ended."""

    def __init__(self, pattern: StartPattern, limits: Limits, ended: Callable[[str], None]) -> None:
        self._pattern = pattern
        self._ended = ended
        self.groups: OpenGroups[bytes] = OpenGroups(limits)

    def feed(self, lines: bytes, now: Moment) -> list[Record]:
        """Take whole lines (the last of all may lack its newline); the records that they end."""
        out: list[Record] = []
        place = 0
        for start in self._pattern.starts(lines):
            if start > place:
                self._extend(lines[place:start], now, out)
            self._close("complete", out)
            place = start
        self._extend(lines[place:], now, out)
        return out

    def flush(self, why: str, now: float | None = None) -> list[Record]:
        """End the open group; with `now`, if it has waited long enough."""
        out: list[Record] = []
        if self.groups.older_than(now):
            self._close(why, out)
        return out

    def _extend(self, lines: bytes, now: Moment, out: list[Record]) -> None:
        groups = self.groups
        count = lines.count(b"\n") + (not lines.endswith(b"\n"))
        fits = count <= groups.limits.lines and len(lines) <= groups.limits.nbytes
        if fits and not groups.full_for(_ALL, count, len(lines)):
            groups.add(_ALL, lines, count, len(lines), now)
            return
        for line in lines.split(b"\n")[: count - 1]:
            self._extend_by_one(line + b"\n", now, out)
        # The last one, with a newline or without.
        self._extend_by_one(lines[lines.rfind(b"\n", 0, len(lines) - 1) + 1 :], now, out)

    def _extend_by_one(self, line: bytes, now: Moment, out: list[Record]) -> None:
        full = self.groups.full_for(_ALL, 1, len(line))
        if full:
            self._close(full, out)
        self.groups.add(_ALL, line, 1, len(line), now)

    def _close(self, why: str, out: list[Record]) -> None:
        group = self.groups.take(_ALL)
        if group is not None:
            self._ended(why)
            out.append(Record(b"".join(group.parts), group.opened.time))
