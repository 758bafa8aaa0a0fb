"""Stage behind `cri`: records of a container joined by the start pattern, stream by stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hf_agent.ingest.lines.open_groups import Limits, OpenGroups
from hf_agent.ingest.lines.record import Moment, Record
from hf_agent.ingest.lines.start_pattern import StartPattern

__all__ = ["CriMultiline"]


class CriMultiline:
    """Joins records. `ended` is told why each group ended."""

    def __init__(self, pattern: StartPattern, limits: Limits, ended: Callable[[str], None]) -> None:
        self._pattern = pattern
        self._ended = ended
        self.groups: OpenGroups[Record] = OpenGroups(limits)

    def feed(self, records: Sequence[Record], now: Moment) -> list[Record]:
        """Take records of `cri`; the records that they end."""
        out: list[Record] = []
        groups = self.groups
        for record in records:
            if not record.stream:
                out.append(record)  # no line of a container: it belongs to none of its groups
                continue
            message = record.message or b""
            size = len(record.data)
            full = groups.full_for(record.stream, 1, size)
            if full or self._pattern.starts(message + b"\n")[:1] == [0]:
                self._close(record.stream, full or "complete", out)
            groups.add(record.stream, record, 1, size, now)
        return out

    def flush(self, why: str, now: float | None = None) -> list[Record]:
        """End the open groups; with `now`, those that have waited long enough."""
        out: list[Record] = []
        for stream in self.groups.older_than(now):
            self._close(stream, why, out)
        return out

    def _close(self, stream: str, why: str, out: list[Record]) -> None:
        group = self.groups.take(stream)
        if group is None:
            return
        self._ended(why)
        records = group.parts
        out.append(
            records[0]._replace(
                data=b"".join([record.data for record in records]),
                message=b"\n".join([record.message or b"" for record in records]),
                partial=records[-1].partial,
            )
        )
