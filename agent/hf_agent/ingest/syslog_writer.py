"""Between the messages of one syslog sender and the sink: what was read and not yet appended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.credentials import Credentials
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.sink import Receipt, Rejected
from hf_agent.ingest.syslog.framing import Messages, Part
from hf_agent.ingest.syslog.settings import SyslogSettings
from hf_agent.ingest.syslog.sorter import Outgoing, Sorter

__all__ = ["SyslogWriter"]

_log = structlog.get_logger(__name__)

_TO_FALLBACK: Final = frozenset({ErrorCode.STREAM_NOT_ALLOWED, ErrorCode.TOO_MANY_STREAMS})


class SyslogWriter:
    """Appends in order, as the sink has room. Holds what one event became, and no more."""

    def __init__(self, endpoint: Endpoint, settings: SyslogSettings) -> None:
        self._sink = endpoint.sink
        self._log_limit = endpoint.log_limit
        self._settings = settings
        self._sorter = Sorter(settings, endpoint.clock.time)
        self._flawed = endpoint.metrics.syslog_flawed_records
        self._pending: deque[Outgoing] = deque()

    def __bool__(self) -> bool:
        """Whether something waits for room."""
        return bool(self._pending)

    @property
    def records(self) -> int:
        """How many records wait."""
        return sum(outgoing.records for outgoing in self._pending)

    def add(self, event: Messages | Part, sender: Credentials) -> None:
        """Format what has arrived; `write` appends it."""
        sorter = self._sorter
        self._pending += (
            sorter.part(event, sender)
            if isinstance(event, Part)
            else sorter.messages(event, sender)
        )
        for flaw, count in sorter.flaws.taken():
            self._flawed.labels(flaw).inc(count)

    def write(self, taken: Callable[[Outgoing, Receipt], None]) -> bool:
        """Append what waits, and tell of each append. False: there was no room for all of it.

        Raises `Rejected`; what was refused is still the first that waits (see `drop`).
        """
        pending, sink = self._pending, self._sink
        while pending:
            if not sink.accepts():
                return False
            outgoing = pending[0]
            try:
                receipt = sink.append(
                    outgoing.stream, outgoing.data, records=outgoing.records, mark=None
                )
            except Rejected as error:
                if not self._redirect(outgoing, error):
                    raise
                continue
            pending.popleft()
            taken(outgoing, receipt)
        return True

    def drop(self) -> int:
        """Forget what was refused; returns how many records that were."""
        return self._pending.popleft().records

    def _redirect(self, outgoing: Outgoing, error: Rejected) -> bool:
        """Have the fallback stream take what the stream of its own does not."""
        fallback = self._settings.fallback_stream
        if (
            self._settings.constant is not None
            or error.code not in _TO_FALLBACK
            or outgoing.stream == fallback
        ):
            return False
        self._pending[0] = outgoing._replace(stream=fallback)
        self._flawed.labels("fallback").inc(outgoing.records)
        if times := self._log_limit.due(error.code):
            _log.warning(
                "messages go to the fallback stream",
                stream=outgoing.stream,
                fallback=fallback,
                reason=error.message,
                times=times,
            )
        return True
