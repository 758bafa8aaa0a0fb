"""A connection of protocol `syslog`: messages in, nothing out.

As with protocol `lines`, end of file is the only acknowledgement, and a line that begins with
`error` comes before any other end. Few senders of syslog look at either.
"""

from __future__ import annotations

import asyncio

from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.connection import Connection
from hf_agent.ingest.credentials import NOBODY, peer_credentials
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.sink import Receipt, Rejected
from hf_agent.ingest.syslog.framing import FramingEvent, PlainLines, SyslogFraming
from hf_agent.ingest.syslog.settings import SyslogSettings
from hf_agent.ingest.syslog.sorter import Outgoing
from hf_agent.ingest.syslog_writer import SyslogWriter

__all__ = ["SyslogConnection"]


class SyslogConnection(Connection):
    """Takes all whole messages that a read brought together."""

    protocol = "syslog"

    def __init__(self, endpoint: Endpoint, settings: SyslogSettings) -> None:
        super().__init__(endpoint)
        self._stream = settings.constant or ""
        self._parser = SyslogFraming(
            settings.max_message_bytes,
            self._buffer,
            octet_counting=settings.octet_counting,
            trailer=settings.trailer,
            plain=settings.plain,
        )
        self._writer = SyslogWriter(endpoint, settings)
        self._sender = NOBODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sender = peer_credentials(transport.get_extra_info("socket"))
        super().connection_made(transport)

    def _take(self) -> None:
        while self._write_pending():
            event = self._parser.next()
            if event is None and self._draining:
                # Nobody will send it again: half a message is more than none.
                event = self._parser.rest(cut=True)
            if event is None or not self._append(event):
                return

    def _take_rest(self) -> None:
        rest = self._parser.rest()
        if rest is not None and self._append(rest):
            self._write_pending()

    def _append(self, event: FramingEvent) -> bool:
        """False: nothing more can be taken now."""
        if not isinstance(event, PlainLines):
            self._writer.add(event, self._sender)
            self._parser.consume()
            return True
        if not self._sink.accepts():
            self._wait_for_room()
            return False
        data = event.data
        try:
            receipt = self._sink.append(
                self._stream, self._buffer.keep(data), records=event.records, mark=None
            )
        except Rejected as error:
            self._refuse(error, event.records)
            return False
        self._parser.consume()
        nbytes = len(data) - event.records
        self._count(Outgoing(self._stream, data, event.records, nbytes), receipt)
        return True

    def _write_pending(self) -> bool:
        """False: there is no room for all of it, or the connection ends."""
        if self._waits or self._ending:
            return False
        try:
            if self._writer.write(self._count):
                return True
        except Rejected as error:
            self._refuse(error, self._writer.records)
            return False
        self._wait_for_room()
        return False

    def _count(self, outgoing: Outgoing, receipt: Receipt) -> None:
        self._taken(receipt, 1, outgoing.stream, outgoing.records, outgoing.nbytes)

    def _refuse(self, error: Rejected, records: int) -> None:
        # `fail` counts one of the records itself.
        code = ErrorCode(error.code)
        self._count_rejected(code, records - 1)
        self.fail(code, error.message)

    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        """Nothing to say: the client learns it from the end of file."""

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return f"error {code}: {message}\n".encode()
