"""Stage: lines as container runtimes write them (CRI), `<time> <stream> P|F <log>`.

A long line comes in parts, each but the last with the tag P; lines of both streams may come between
them. Parts of a stream are joined until its F. What is no such line passes as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from hf_agent.ingest.lines.open_groups import Limits, OpenGroup, OpenGroups
from hf_agent.ingest.lines.record import Moment, Record

__all__ = ["Cri"]

_LINE: Final = re.compile(rb"([0-9A-Za-z:.+-]{1,64}) (stdout|stderr) ([PF]) ([^\n]*)\n?")
_STREAMS: Final = {b"stdout": "stdout", b"stderr": "stderr"}


class Cri:
    """Joins parts. `ended` is told why each joined line ended; `malformed` of what is no line."""

    def __init__(
        self, limits: Limits, ended: Callable[[str], None], malformed: Callable[[], None]
    ) -> None:
        self._ended = ended
        self._malformed = malformed
        self.groups: OpenGroups[tuple[bytes, bytes]] = OpenGroups(limits)
        """Of each part, its time and its log."""

    def feed(self, lines: bytes, now: Moment) -> list[Record]:
        """Take whole lines (the last of all may lack its newline); the records that they end."""
        out: list[Record] = []
        groups = self.groups
        place, end = 0, len(lines)
        match_at = _LINE.match
        while place < end:
            newline = lines.find(b"\n", place)
            stop = end if newline < 0 else newline + 1
            line = lines[place:stop]
            place = stop
            match = match_at(line)
            if match is None:
                self._malformed()
                out.append(Record(line, now.time))
                continue
            time, name, tag, log = match.groups()
            stream = _STREAMS[name]
            if tag == b"F" and not groups.holds(stream):
                out.append(Record(line, now.time, log, time.decode(), stream))
                continue
            full = groups.full_for(stream, 1, len(line))
            if full:
                self._close(stream, full, out, partial=True)
            groups.add(stream, (time, log), 1, len(line), now)
            if tag == b"F":
                self._close(stream, "complete", out, partial=False)
        return out

    def flush(self, why: str, now: float | None = None) -> list[Record]:
        """End the open lines; with `now`, those that have waited long enough."""
        out: list[Record] = []
        for stream in self.groups.older_than(now):
            self._close(stream, why, out, partial=True)
        return out

    def _close(self, stream: str, why: str, out: list[Record], *, partial: bool) -> None:
        group = self.groups.take(stream)
        if group is not None:
            self._ended(why)
            out.append(_joined(group, stream, partial))


def _joined(group: OpenGroup[tuple[bytes, bytes]], stream: str, partial: bool) -> Record:
    time = group.parts[0][0]
    message = b"".join([log for _, log in group.parts])
    data = b"%b %b %b %b\n" % (time, stream.encode(), b"P" if partial else b"F", message)
    return Record(data, group.opened.time, message, time.decode(), stream, partial)
