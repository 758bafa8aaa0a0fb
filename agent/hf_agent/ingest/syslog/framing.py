"""Where syslog messages begin and end on a stream socket, by the first byte of each (RFC 6587).

A digit from 1 to 9 begins the message's length (octet counting); whatever else goes on to a
trailer (non-transparent framing). Nothing is refused: a message that is longer than one may be is
given in parts, one that the end of the input cuts is given as far as it came, and what is no
length after all is a message with a trailer. Trailers with no message before them are skipped.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from hf_agent.ingest.receive_buffer import ReceiveBuffer

__all__ = ["FramingEvent", "Messages", "Part", "PlainLines", "SyslogFraming", "Trailer"]

Trailer: TypeAlias = Literal["any", "newline", "nul"]

_BATCH: Final = 64 << 10
"""Bytes of messages that are given together, and one message more."""
_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_LENGTH_BYTES: Final = 11
_TRAILERS: Final = {
    "any": re.compile(rb"[\n\0]"),
    "newline": re.compile(rb"\n"),
    "nul": re.compile(rb"\0"),
}
_SKIPPED: Final = {
    "any": re.compile(rb"[\n\0]*"),
    "newline": re.compile(rb"\n*"),
    "nul": re.compile(rb"\0*"),
}
_DIGITS: Final = frozenset(b"123456789")


class Messages(NamedTuple):
    """Whole messages in their order, without what framed them."""

    messages: list[bytes]


class PlainLines(NamedTuple):
    """Messages that begin with `<` and end with a newline; `data` is a view of the buffer."""

    data: memoryview
    records: int


class Part(NamedTuple):
    """A piece of a message that is over the limit, or that was cut."""

    data: bytes
    number: int
    """Of the piece, from 1."""
    more: bool
    """It is not the last of the message, or the end never came."""


FramingEvent: TypeAlias = Messages | PlainLines | Part


class SyslogFraming:
    """Takes messages out of a `ReceiveBuffer`, into which somebody else receives.

    `next` and `consume` are two steps so that messages which cannot be taken yet stay where they
    are. It holds no memory but the buffer's, which never needs more than `max_bytes` (of a
    message) and a few bytes for its length.
    """

    def __init__(
        self,
        max_bytes: int,
        buffer: ReceiveBuffer,
        *,
        octet_counting: bool = True,
        trailer: Trailer = "any",
        plain: bool = False,
    ) -> None:
        """With `plain`, messages that need no looking at are given as `PlainLines`.

        Without `octet_counting`, a digit begins a message like any other byte.
        """
        self._max = max_bytes
        self._counting = octet_counting
        self._trailer = _TRAILERS[trailer]
        self._skipped = _SKIPPED[trailer]
        self._plain = plain and trailer != "nul"
        self._nul_ends = trailer == "any"
        self._taken = 0
        self._searched = 0
        # Of a message of which parts were given: how many, and what is left if it was counted.
        self._parts = 0
        self._left = 0
        # What these become with `consume`.
        self._next_parts = 0
        self._next_left = 0
        self.buffer = buffer

    def next(self) -> FramingEvent | None:
        """The next event; None when nothing is whole in the buffer."""
        if not self._parts:
            self._skip()
            if self._plain:
                lines = self._lines()
                if lines is not None:
                    return lines
            messages = self._messages()
            if messages is not None:
                return messages
        return self._part()

    def consume(self) -> None:
        """Go on behind the event that `next` or `rest` gave."""
        self.buffer.consume(self._taken)
        self._parts, self._left = self._next_parts, self._next_left
        self._taken = self._searched = 0

    def rest(self, *, cut: bool = False) -> Messages | Part | None:
        """At the end of the input: what is left, when `next` gives nothing. None: nothing is.

        What lacks its trailer only is a whole message, but with `cut`, which says that the input
        did not end here by itself.
        """
        buffer = self.buffer
        at, end = buffer.start, buffer.end
        counted = self._left > 0
        if not self._parts:
            length = self._length(at, end)
            if length is not None:
                at, counted = length[0], True
        if at == end and not counted:
            return None
        data = bytes(buffer.view[at:end])
        self._taken = end - buffer.start
        self._next_parts = self._next_left = 0
        number = self._parts + 1
        if number == 1 and not counted and not cut:
            return Messages([data])
        return Part(data, number, more=counted or cut)

    # -- at the beginning of a message -------------------------------------------------------

    def _skip(self) -> None:
        buffer = self.buffer
        found = self._skipped.match(buffer.data, buffer.start, buffer.end)
        if found is not None and found.end() > buffer.start:
            buffer.consume(found.end() - buffer.start)
            self._searched = 0

    def _length(self, at: int, end: int) -> tuple[int, int] | None:
        """Where a counted message's text begins, and its length; None: it is not counted."""
        if not self._counting:
            return None
        found = _LENGTH.match(self.buffer.data, at, end)
        return (found.end(), int(found[1])) if found is not None else None

    def _may_be_length(self, at: int, end: int) -> bool:
        """Whether what has come might become a length."""
        short = bytes(self.buffer.view[at:end]) if end - at < _LENGTH_BYTES else b""
        return self._counting and short.isdigit() and not short.startswith(b"0")

    def _lines(self) -> PlainLines | None:
        buffer = self.buffer
        data, start = buffer.data, buffer.start
        stop = min(buffer.end, start + self._max)
        last = data.rfind(b"\n", start + self._searched, stop) + 1
        if not last or data[start] != 0x3C:
            return None
        records = data.count(b"\n", start, last)
        # Each line but the first begins behind a newline: as many pairs as there are such lines.
        if data.count(b"\n<", start, last) != records - 1:
            return None
        if self._nul_ends and data.find(b"\0", start, last) >= 0:
            return None
        self._taken = last - start
        return PlainLines(buffer.view[start:last], records)

    def _messages(self) -> Messages | None:
        buffer = self.buffer
        data, view, end = buffer.data, buffer.view, buffer.end
        at = buffer.start
        stop = min(end, at + _BATCH)
        counting = self._counting
        search, skip, longest = self._trailer.search, self._skipped.match, self._max
        messages: list[bytes] = []
        searched = self._searched
        while at < end:
            if counting and data[at] in _DIGITS:
                if self._may_be_length(at, end):
                    break
                length = self._length(at, end)
                if length is not None:
                    text = length[0]
                    behind = text + length[1]
                    if behind > end or length[1] > longest:
                        break
                    messages.append(bytes(view[text:behind]))
                    at = self._behind_trailers(behind, end)
                    if at >= stop:
                        break
                    continue
            found = search(data, at + searched, min(end, at + longest + 1))
            if found is None:
                break
            messages.append(bytes(view[at : found.start()]))
            searched = 0
            trailers = skip(data, found.end(), end)
            at = trailers.end() if trailers is not None else found.end()
            if at >= stop:
                break
        if not messages:
            return None
        self._taken = at - buffer.start
        return Messages(messages)

    def _behind_trailers(self, at: int, end: int) -> int:
        found = self._skipped.match(self.buffer.data, at, end)
        return found.end() if found is not None else at

    # -- messages over the limit -------------------------------------------------------------

    def _part(self) -> Part | None:
        buffer = self.buffer
        at, end = buffer.start, buffer.end
        if at == end:
            return None
        left = self._left
        if not self._parts:
            if self._may_be_length(at, end):
                buffer.wanted = _LENGTH_BYTES
                return None
            length = self._length(at, end)
            if length is not None:
                at, left = length
        return self._counted_part(at, left) if left else self._trailed_part(at)

    def _counted_part(self, at: int, left: int) -> Part | None:
        buffer = self.buffer
        size = min(left, self._max)
        if buffer.end - at < size:
            buffer.wanted = at - buffer.start + size
            return None
        self._next_left = left - size
        return self._give(at, size, more=left > size)

    def _trailed_part(self, at: int) -> Part | None:
        buffer = self.buffer
        end = buffer.end
        found = self._trailer.search(buffer.data, at + self._searched, min(end, at + self._max + 1))
        self._next_left = 0
        if found is not None:
            part = self._give(at, found.start() - at, more=False)
            self._taken += 1
            return part
        if end - at > self._max:
            return self._give(at, self._max, more=True)
        self._searched = end - at
        buffer.wanted = self._max + 1
        return None

    def _give(self, at: int, size: int, *, more: bool) -> Part:
        buffer = self.buffer
        number = self._parts + 1
        self._next_parts = number if more else 0
        self._taken = at + size - buffer.start
        return Part(bytes(buffer.view[at : at + size]), number, more)
