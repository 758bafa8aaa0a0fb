"""Protocol `forward` without I/O: bytes in, messages out.

Messages are bare msgpack arrays, one behind the other: nothing says beforehand how long one is.
The events of most of them stand in one str or bin, whose header tells; the others are searched for
their end as they come.
"""

from __future__ import annotations

from typing import Final

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.forward.messages import (
    Events,
    ForwardMessage,
    Heartbeat,
    Options,
    decode_options,
    decode_ping,
)
from hf_agent.ingest.forward.run import Run, find_run, read_run
from hf_agent.ingest.forward.scan import (
    BIN_WIDTH,
    NOT_WHOLE,
    Skipper,
    array_length,
    is_array,
    is_text,
    malformed,
    skip,
    text_bounds,
)
from hf_agent.ingest.receive_buffer import ReceiveBuffer

__all__ = ["MAX_TAG_BYTES", "MessageReader"]

MAX_TAG_BYTES: Final = 1024
_MAX_SIDE_BYTES: Final = 16 << 10
"""Of the options, and of a message of the handshake."""
_MAX_RUN: Final = 1024
_NIL: Final = 0xC0
_PING_ELEMENTS: Final = 6
_HEARTBEAT: Final = Heartbeat()
_NO_OPTIONS: Final = Options()
_ONE_ENTRY: Final = b"\x92"


class MessageReader:
    """Takes messages out of a `ReceiveBuffer`, into which somebody else receives.

    `next` and `consume` are two steps so that a message which cannot be taken yet stays where it
    is. It holds the buffer's memory, and a copy of one read, or one str, of a message under way.
    """

    def __init__(self, max_message_bytes: int, buffer: ReceiveBuffer) -> None:
        self._max = max_message_bytes
        self._skipper: Skipper | None = None
        self._size = 0
        self._options_bytes = 0
        self._tag = b""
        self._head = b""
        """Of the last message that was packed in a bin: up to the bin's length."""
        self._run_size = 0
        self._one_by_one = 0
        """Bytes of messages that make no run."""
        self.buffer = buffer

    def next(self) -> ForwardMessage | None:
        """The first message in the buffer that was not consumed; None when it is not whole.

        What it holds points into the buffer. Raises `ProtocolError` (`malformed`,
        `frame_too_large`); the stream of bytes makes no sense after that.
        """
        buffer = self.buffer
        if buffer.start == buffer.end:
            return None
        # Never further: whether damage behind it were seen would depend on how the bytes came.
        end = min(buffer.end, buffer.start + self._max)
        message = self._message(buffer.data, buffer.start, end)
        if message is None and len(buffer) > self._max:
            raise self._too_large(len(buffer))
        return message

    def consume(self) -> None:
        """Go on behind the message that `next` gave."""
        self.buffer.consume(self._size)
        self._skipper = None
        if self._one_by_one:
            self._one_by_one = max(0, self._one_by_one - self._size)

    def run(self, max_bytes: int) -> Run | None:
        """The next messages, as far as they are packed as one was that `next` gave.

        None unless there are two at least, of `max_bytes` together at most, and all of them are
        simple. To take messages as a run is much cheaper than to take each apart. A message that
        `next` gave, and that was not consumed, may be the first one.
        """
        if self._one_by_one or not self._head:
            return None
        buffer = self.buffer
        start = buffer.start
        count, end = find_run(
            buffer.data,
            start,
            buffer.end,
            head=self._head,
            options_bytes=self._options_bytes,
            max_messages=_MAX_RUN,
            max_bytes=min(max_bytes, self._max),
        )
        if count <= 1:
            return None
        self._run_size = end - start
        run = read_run(self._tag, buffer.view[start:end], count)
        if run is None:
            self.part_run()
        return run

    def consume_run(self) -> None:
        """Go on behind the run that `run` gave."""
        self.buffer.consume(self._run_size)
        self._skipper = None

    def part_run(self) -> None:
        """Have `next` give the messages of the run that `run` gave, one by one."""
        self._one_by_one = self._run_size

    def _message(self, data: bytearray, start: int, end: int) -> ForwardMessage | None:
        if data[start] == _NIL:
            self._size = 1
            return _HEARTBEAT
        header = array_length(data, start, end)
        if header is None:
            return None
        elements, at = header
        if elements == 0:
            self._size = at - start
            return _HEARTBEAT
        bounds = text_bounds(data, at, end)
        if bounds is None:
            return None
        begin, at = bounds
        if at - begin > MAX_TAG_BYTES:
            raise malformed(f"tag is too long bytes={at - begin} limit={MAX_TAG_BYTES}")
        if at >= end:
            return None
        tag = bytes(self.buffer.view[begin:at])
        if elements == _PING_ELEMENTS and tag == b"PING":
            return self._ping(data, start, at, end)
        if not 2 <= elements <= 4:
            raise malformed(f"message has no known shape elements={elements}")
        first = data[at]
        if is_text(first):
            return self._packed(tag, elements, start, at, end)
        if is_array(first):
            return self._forward(tag, elements, start, at, end)
        return self._single(tag, elements, start, at, end)

    # -- the modes -------------------------------------------------------------------------

    def _packed(self, tag: bytes, elements: int, start: int, at: int, end: int) -> Events | None:
        """`[tag, entries, options]`, the entries in one str or bin, perhaps compressed."""
        if elements == 4:
            raise malformed("message has no known shape: behind packed entries stand options only")
        bounds = text_bounds(self.buffer.data, at, end)
        if bounds is None:
            return None
        begin, close = bounds
        if close - start > self._max:
            raise self._too_large(close - start)
        if close > end:
            self.buffer.wanted = close - start + (elements - 2)
            return None
        options = self._options(elements - 2, start, close, end)
        if options is None:
            return None
        if elements == 3 and self.buffer.data[at] in BIN_WIDTH:
            self._tag, self._head = tag, bytes(self.buffer.view[start : at + 1])
        return Events(tag, self.buffer.view[begin:close], None, options)

    def _forward(self, tag: bytes, elements: int, start: int, at: int, end: int) -> Events | None:
        """`[tag, [entry, …], options]`."""
        if elements == 4:
            raise malformed("message has no known shape: behind an array stand options only")
        header = array_length(self.buffer.data, at, end)
        if header is None:
            return None
        close = self._skip(1, at, end)
        if close == NOT_WHOLE:
            return None
        options = self._options(elements - 2, start, close, end)
        if options is None:
            return None
        count, begin = header
        return Events(tag, self.buffer.view[begin:close], count, options)

    def _single(self, tag: bytes, elements: int, start: int, at: int, end: int) -> Events | None:
        """`[tag, time, record, options]`."""
        if elements == 2:
            raise malformed("message has no known shape: neither entries nor time and record")
        close = self._skip(2, at, end)
        if close == NOT_WHOLE:
            return None
        options = self._options(elements - 3, start, close, end)
        if options is None:
            return None
        return Events(tag, b"".join((_ONE_ENTRY, self.buffer.view[at:close])), 1, options)

    def _ping(self, data: bytearray, start: int, at: int, end: int) -> ForwardMessage | None:
        for _ in range(_PING_ELEMENTS - 1):
            at = self._side("PING", at, end)
            if at == NOT_WHOLE:
                return None
        self._size = at - start
        return decode_ping(self.buffer.view[start:at])

    # -- parts of a message ----------------------------------------------------------------

    def _skip(self, values: int, at: int, end: int) -> int:
        if self._skipper is None:
            self._skipper = Skipper(values, self._max)
        length = self._skipper.end(self.buffer.view[at:end])
        return length if length == NOT_WHOLE else at + length

    def _options(self, elements: int, start: int, at: int, end: int) -> Options | None:
        """The options at the end of the message, and so its size; None when they are not whole."""
        if elements == 0:
            self._size = at - start
            return _NO_OPTIONS
        view = self.buffer.view
        close = at + self._options_bytes
        if self._options_bytes and close <= end:
            # Mostly they are as long as those before. If not, that is no value, and fails.
            try:
                options = decode_options(view[at:close])
                self._size = close - start
                return options
            except ProtocolError:
                self._options_bytes = 0
        close = self._side("options", at, end)
        if close == NOT_WHOLE:
            return None
        options = decode_options(view[at:close])
        self._size, self._options_bytes = close - start, close - at
        return options

    def _side(self, what: str, at: int, end: int) -> int:
        close = skip(self.buffer.data, at, min(end, at + _MAX_SIDE_BYTES))
        if close == NOT_WHOLE and end - at > _MAX_SIDE_BYTES:
            raise malformed(f"{what} takes too much room limit={_MAX_SIDE_BYTES}")
        return close

    def _too_large(self, size: int) -> ProtocolError:
        return ProtocolError(
            ErrorCode.FRAME_TOO_LARGE,
            f"message is over forward.max_message_bytes: raise that, or have the peer send smaller "
            f"chunks bytes={size} limit={self._max}",
        )
