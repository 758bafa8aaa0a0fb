"""Bytes in, whole lines out, byte for byte as they came.

Lines are not looked at one by one: what has arrived up to its last newline is one piece. Only a
piece that is longer than a line may be is taken apart, at newlines, into pieces that are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.lines.newlines import count_newlines
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from hf_agent.ingest.stream_name import (
    MAX_STREAM_NAME_BYTES,
    STREAM_NAME_RULE,
    is_stream_name,
)

__all__ = ["Lines", "LinesEvent", "LinesParser", "StreamNamed"]

_NEWLINE = b"\n"
_NAME_LINE_BYTES = MAX_STREAM_NAME_BYTES + 1


@dataclass(frozen=True, slots=True)
class StreamNamed:
    """The connection's first line named its stream."""

    stream: str


@dataclass(frozen=True, slots=True)
class Lines:
    """`records` lines, newlines included; `data` is a view of the buffer."""

    data: memoryview
    records: int


LinesEvent: TypeAlias = StreamNamed | Lines


class LinesParser:
    """Takes lines out of a `ReceiveBuffer`, into which somebody else receives.

    `next` and `consume` are two steps so that lines which cannot be taken yet stay where they
    are. `max_line_bytes` counts the newline. It holds no memory but the buffer's.
    """

    def __init__(self, max_line_bytes: int, buffer: ReceiveBuffer, *, named: bool) -> None:
        """With `named`, the first line names the stream."""
        self._max = max_line_bytes
        self._naming = named
        self._taken = 0
        self._searched = 0
        self.buffer = buffer

    def next(self) -> LinesEvent | None:
        """The next event; None when no whole line is in the buffer.

        Raises `ProtocolError`: `record_too_large` for a line over the limit, after the lines
        before it have been given; `bad_stream` for a first line that is no stream name.
        """
        return self._name() if self._naming else self._lines()

    def consume(self) -> None:
        """Go on behind the event that `next` gave."""
        self._naming = False
        self.buffer.consume(self._taken)
        self._taken = self._searched = 0

    def shorten(self, lines: Lines, nbytes: int) -> Lines:
        """The first of the lines that `next` gave: at most `nbytes` of them, but at least one."""
        if len(lines.data) <= nbytes:
            return lines
        buffer = self.buffer
        data, start = buffer.data, buffer.start
        last = data.rfind(_NEWLINE, start, start + nbytes)
        if last < 0:
            last = data.find(_NEWLINE, start + nbytes, start + self._taken)
        self._taken = last + 1 - start
        return Lines(buffer.view[start : last + 1], count_newlines(data, start, last + 1))

    def rest(self) -> Lines | None:
        """At the end of the input: the last line, which has no newline. None: there is none."""
        buffer = self.buffer
        if not len(buffer) or self._naming:
            return None
        self._taken = len(buffer)
        return Lines(buffer.view[buffer.start : buffer.end], 1)

    def _lines(self) -> Lines | None:
        buffer = self.buffer
        data, start, end = buffer.data, buffer.start, buffer.end
        stop = min(end, start + self._max)
        # What was searched before and found without newline is not searched again.
        last = data.rfind(_NEWLINE, start + self._searched, stop)
        if last < 0:
            if end - start > self._max:
                raise ProtocolError(
                    ErrorCode.RECORD_TOO_LARGE, f"line is over the limit limit={self._max}"
                )
            self._searched = stop - start
            buffer.wanted = self._max + 1
            return None
        self._taken = last + 1 - start
        return Lines(buffer.view[start : last + 1], count_newlines(data, start, last + 1))

    def _name(self) -> StreamNamed | None:
        buffer = self.buffer
        start = buffer.start
        newline = buffer.data.find(_NEWLINE, start, min(buffer.end, start + _NAME_LINE_BYTES))
        if newline < 0:
            if len(buffer) >= _NAME_LINE_BYTES:
                raise ProtocolError(
                    ErrorCode.BAD_STREAM, f"first line is longer than a name {STREAM_NAME_RULE}"
                )
            buffer.wanted = _NAME_LINE_BYTES
            return None
        name = bytes(buffer.view[start:newline]).decode("ascii", "replace")
        if not is_stream_name(name):
            raise ProtocolError(
                ErrorCode.BAD_STREAM, f"first line is no stream name {STREAM_NAME_RULE}"
            )
        self._taken = newline + 1 - start
        return StreamNamed(name)
