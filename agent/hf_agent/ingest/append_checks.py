"""What refuses an append of protocol `append` for what it is: it would be refused again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.append_messages import ACK_STORE, ACK_WAL
from hf_agent.ingest.sink import Rejected, Sink
from hf_agent.ingest.stream_name import STREAM_NAME_RULE, is_stream_name

__all__ = ["AppendChecks", "Refusal"]

Refusal = tuple[ErrorCode, str]

_NAMES_REMEMBERED: Final = 1024
"""Stream names found valid that a connection remembers."""


class AppendChecks:
    """The rules of one connection."""

    def __init__(self, max_record_bytes: int, sink: Sink) -> None:
        self._max_record_bytes = max_record_bytes
        self._sink = sink
        self._names: set[str] = set()

    def refusal(self, streams: Iterable[str], nbytes: int, ack: str) -> Refusal | None:
        """Why appends of `nbytes` together to these streams cannot be taken; None: they can."""
        if nbytes > self._max_record_bytes:
            return (
                ErrorCode.RECORD_TOO_LARGE,
                f"record or batch is over the limit bytes={nbytes} limit={self._max_record_bytes}",
            )
        if ack not in (ACK_WAL, ACK_STORE):
            return ErrorCode.BAD_ACK, "no such acknowledgement known='wal store'"
        names = self._names
        for stream in streams:
            if stream not in names:
                if not is_stream_name(stream):
                    return ErrorCode.BAD_STREAM, f"no stream name {STREAM_NAME_RULE}"
                try:
                    self._sink.check_stream(stream)
                except Rejected as error:
                    return ErrorCode(error.code), error.message
                if len(names) >= _NAMES_REMEMBERED:
                    names.clear()
                names.add(stream)
        return None
