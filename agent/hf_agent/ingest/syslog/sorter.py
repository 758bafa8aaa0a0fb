"""Messages that arrived together become appends: one for each stream, or several if large."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from hf_agent.ingest.credentials import Credentials
from hf_agent.ingest.sink import Buffer
from hf_agent.ingest.syslog.framing import Messages, Part
from hf_agent.ingest.syslog.message import Parsed, Unparsed, parse_message
from hf_agent.ingest.syslog.settings import Route, SyslogSettings

__all__ = ["Outgoing", "Sorter"]


class Outgoing(NamedTuple):
    """One append: what is stored of `records` messages, of `nbytes` bytes as they came."""

    stream: str
    data: Buffer
    records: int
    nbytes: int


class Flaws:
    """How many messages were not what they should be, since the last look."""

    __slots__ = ("fallback", "partial", "unparsed")

    def __init__(self) -> None:
        self.fallback = 0
        self.partial = 0
        self.unparsed = 0

    def taken(self) -> list[tuple[str, int]]:
        """What there was of each, by name; nothing from now on."""
        if not (self.fallback or self.partial or self.unparsed):
            return []
        found = [(name, getattr(self, name)) for name in self.__slots__]
        self.fallback = self.partial = self.unparsed = 0
        return found


class Sorter:
    """Reads the fields of messages, as far as somebody wants them, and formats them.

    Remembers the stream of a message of which parts are still to come; one for each connection.
    """

    def __init__(self, settings: SyslogSettings, time: Callable[[], float]) -> None:
        """`time` gives the seconds of the Unix epoch."""
        self._settings = settings
        self._time = time
        self._part_route: Route | None = None
        self.flaws = Flaws()

    def messages(self, event: Messages, sender: Credentials) -> list[Outgoing]:
        """Appends for whole messages of one sender, in their order."""
        settings = self._settings
        shown = sender if settings.credentials else None
        record, received = settings.format.record, self._received()
        if not settings.reads_fields:
            assert settings.constant is not None
            records = [record(message, None, received, shown) for message in event.messages]
            return self._appends(settings.constant, records, event.messages)
        streams: dict[str, tuple[list[bytes], list[bytes]]] = {}
        flaws = self.flaws
        for message in event.messages:
            parsed = parse_message(message)
            if parsed is None or isinstance(parsed, Unparsed):
                flaws.unparsed += 1
            records, messages = streams.setdefault(self._stream(parsed), ([], []))
            records.append(record(message, parsed, received, shown))
            messages.append(message)
        return [
            append
            for stream, (records, messages) in streams.items()
            for append in self._appends(stream, records, messages)
        ]

    def part(self, part: Part, sender: Credentials) -> list[Outgoing]:
        """The append for a part of a message; all parts go where the first one does."""
        settings = self._settings
        if part.number == 1:
            self.flaws.partial += 1
            parsed = parse_message(part.data) if settings.constant is None else None
            self._part_route = settings.route(parsed)
            self.flaws.fallback += self._part_route.is_fallback
        assert self._part_route is not None
        shown = sender if settings.credentials else None
        data = settings.format.part(part, self._received(), shown)
        return self._appends(self._part_route.stream, [data], [part.data])

    def _stream(self, parsed: Parsed | None) -> str:
        route = self._settings.route(parsed)
        self.flaws.fallback += route.is_fallback
        return route.stream

    def _appends(self, stream: str, records: list[bytes], messages: list[bytes]) -> list[Outgoing]:
        limit = self._settings.max_record_bytes
        appends: list[Outgoing] = []
        first = size = 0
        for index, record in enumerate(records):
            if size + len(record) > limit and index > first:
                appends.append(_append(stream, records[first:index], messages[first:index]))
                first, size = index, 0
            size += len(record)
        if size:
            appends.append(_append(stream, records[first:], messages[first:]))
        return appends

    def _received(self) -> str:
        moment = datetime.fromtimestamp(self._time(), UTC)
        return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def _append(stream: str, records: list[bytes], messages: list[bytes]) -> Outgoing:
    return Outgoing(stream, b"".join(records), len(records), sum(map(len, messages)))
