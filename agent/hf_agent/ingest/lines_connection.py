"""A connection of protocol `lines`: newline-framed bytes in, nothing out.

End of file is the acknowledgement. So that it can be told from a connection that the agent ends for
another reason, the agent then writes one line first, which begins with `error`. For clients that
cannot tell end of file from a reset, it can be had to say `ok` before an end of file.
"""

from __future__ import annotations

from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.connection import Connection
from hf_agent.ingest.durable_acks import Acknowledged
from hf_agent.ingest.endpoint import FIRST_LINE, Endpoint
from hf_agent.ingest.lines.parser import Lines, LinesParser, StreamNamed
from hf_agent.ingest.sink import Rejected

__all__ = ["LinesConnection"]


class LinesConnection(Connection):
    """Takes all whole lines that a read brought as one append."""

    protocol = "lines"

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        config = endpoint.config
        named = config.stream == FIRST_LINE
        self._stream = "" if named else config.stream
        self._parser = LinesParser(config.max_record_bytes, self._buffer, named=named)

    def _take(self) -> None:
        while not self._waits and not self._ending:
            event = self._parser.next()
            if event is None:
                return
            if isinstance(event, StreamNamed):
                self._stream = event.stream
                self._parser.consume()
            else:
                self._append(event)

    def _take_rest(self) -> None:
        rest = self._parser.rest()
        if rest is not None:
            self._append(rest)
        else:
            self._count_incomplete()

    def _append(self, lines: Lines) -> None:
        if not self._sink.accepts():
            self._wait_for_room()
            return
        nbytes = len(lines.data)
        try:
            receipt = self._sink.append(
                self._stream, self._buffer.keep(lines.data), records=lines.records, mark=None
            )
        except Rejected as error:
            # `fail` counts one of the records itself.
            code = ErrorCode(error.code)
            self._count_rejected(code, lines.records - 1)
            self.fail(code, error.message)
            return
        self._parser.consume()
        self._taken(receipt, 1, self._stream, lines.records, nbytes)

    def _all_done(self) -> None:
        if self._endpoint.config.lines.say_ok:
            self._write(b"ok\n")

    def _acknowledge(self, acknowledged: Acknowledged) -> None:
        """Nothing to say: the client learns it from the end of file."""

    def _error(self, code: ErrorCode, message: str, id: int | None) -> bytes:
        return f"error {code}: {message}\n".encode()
