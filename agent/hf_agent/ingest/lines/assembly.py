"""Lines into appends by way of the configured stages. One for each connection; no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from hf_agent.ingest.lines.cri import Cri
from hf_agent.ingest.lines.cri_multiline import CriMultiline
from hf_agent.ingest.lines.formats import JsonFormat, RawFormat
from hf_agent.ingest.lines.multiline import Multiline
from hf_agent.ingest.lines.record import Append, Moment, Record

__all__ = ["Assembly", "CriLines", "JoinedLines", "WrappedLines"]


class Assembly(Protocol):
    """What a connection does with lines."""

    @property
    def held(self) -> int:
        """Bytes of lines that wait for more."""
        ...

    @property
    def deadline(self) -> float | None:
        """When `expire` has something to do next (monotonic); None: nothing waits."""
        ...

    def feed(self, lines: bytes, now: Moment) -> Iterator[Append]:
        """Take whole lines (the last of all may lack its newline).

        They are taken when this returns; appends are made as they are asked for. Iterating may
        raise `ProtocolError`.
        """
        ...

    def expire(self, now: Moment) -> Iterator[Append]:
        """End what has waited long enough."""
        ...

    def flush(self, why: str, now: Moment) -> Iterator[Append]:
        """End everything that waits."""
        ...


class WrappedLines:
    """Every line by itself, as JSON."""

    held = 0
    deadline: float | None = None

    def __init__(self, format: JsonFormat) -> None:
        self._format = format

    def feed(self, lines: bytes, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return self._format.lines(lines, now.time)

    def expire(self, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return iter(())

    def flush(self, why: str, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return iter(())


class JoinedLines:
    """Lines joined by the start pattern."""

    def __init__(self, multiline: Multiline, format: RawFormat | JsonFormat) -> None:
        self._multiline = multiline
        self._format = format

    @property
    def held(self) -> int:
        """See `Assembly`."""
        return self._multiline.groups.held

    @property
    def deadline(self) -> float | None:
        """See `Assembly`."""
        return self._multiline.groups.deadline

    def feed(self, lines: bytes, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return self._format.appends(self._multiline.feed(lines, now))

    def expire(self, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return self._format.appends(self._multiline.flush("time", now.monotonic))

    def flush(self, why: str, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return self._format.appends(self._multiline.flush(why))


class CriLines:
    """Lines of a container runtime, their parts joined; then, if wanted, by the start pattern."""

    def __init__(
        self, cri: Cri, multiline: CriMultiline | None, format: RawFormat | JsonFormat
    ) -> None:
        self._cri = cri
        self._multiline = multiline
        self._format = format

    @property
    def held(self) -> int:
        """See `Assembly`."""
        held = self._cri.groups.held
        return held if self._multiline is None else held + self._multiline.groups.held

    @property
    def deadline(self) -> float | None:
        """See `Assembly`."""
        first = self._cri.groups.deadline
        second = None if self._multiline is None else self._multiline.groups.deadline
        if first is None or second is None:
            return second if first is None else first
        return min(first, second)

    def feed(self, lines: bytes, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        return self._appends(self._cri.feed(lines, now), [], now)

    def expire(self, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        ended = [] if self._multiline is None else self._multiline.flush("time", now.monotonic)
        return self._appends(self._cri.flush("time", now.monotonic), ended, now)

    def flush(self, why: str, now: Moment) -> Iterator[Append]:
        """See `Assembly`."""
        records = self._cri.flush(why)
        if self._multiline is None:
            return self._format.appends(records)
        return self._format.appends(
            [*self._multiline.feed(records, now), *self._multiline.flush(why)]
        )

    def _appends(self, records: list[Record], ended: list[Record], now: Moment) -> Iterator[Append]:
        if self._multiline is not None:
            records = self._multiline.feed(records, now)
        return self._format.appends([*ended, *records])
