"""What records become in their stream: the bytes as they came, or a line of JSON for each.

Both give appends of at most `max_append_bytes` that hold whole records. They are made one after the
other, when they are asked for: what cannot be appended yet takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from msgspec.json import Encoder

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.forward.event_time import time_text
from hf_agent.ingest.forward.values import text_or_bytes
from hf_agent.ingest.lines.record import Append, Record

__all__ = ["PARTIAL_KEY", "JsonFormat", "JsonKeys", "Peer", "RawFormat"]

T = TypeVar("T")

PARTIAL_KEY: Final = "$partial"
"""Says that a line goes on in the next record of its stream."""

_encoder: Final = Encoder()


class Peer(Protocol):
    """Who is at the other end, as the kernel says."""

    @property
    def pid(self) -> int: ...
    @property
    def uid(self) -> int: ...


class JsonKeys(Protocol):
    """The part of `[listen.lines]` that is about keys; an empty one is not written."""

    @property
    def time_key(self) -> str: ...
    @property
    def pid_key(self) -> str: ...
    @property
    def uid_key(self) -> str: ...
    @property
    def stream_key(self) -> str: ...
    @property
    def message_key(self) -> str: ...


class RawFormat:
    """The bytes as they came, but for CRI lines that were joined."""

    def __init__(self, max_append_bytes: int) -> None:
        self._max = max_append_bytes

    def appends(self, records: Sequence[Record]) -> Iterator[Append]:
        """The records, in their order. None is larger than an append: lines are not, nor groups."""
        return _fitting([record.data for record in records], b"".join, self._max)


class JsonFormat:
    """Lines of JSON: when and from whom a line came, and what it says."""

    def __init__(self, keys: JsonKeys, peer: Peer, max_append_bytes: int) -> None:
        self._max = max_append_bytes
        self._time_key = keys.time_key
        self._stream_key = keys.stream_key
        self._message_key = keys.message_key
        self._peer: dict[str, Any] = {}
        if keys.pid_key:
            self._peer[keys.pid_key] = peer.pid
        if keys.uid_key:
            self._peer[keys.uid_key] = peer.uid

    def lines(self, lines: bytes, received: float) -> Iterator[Append]:
        """Each of `lines` by itself. Raises `ProtocolError` for one that becomes too large."""
        head = _encoder.encode({**self._time(received), **self._peer})[:-1]
        comma = b"," if len(head) > 1 else b""
        prefix = b"%b%b%b:" % (head, comma, _encoder.encode(self._message_key))
        between = b"}\n" + prefix

        def wrap(messages: Sequence[Any]) -> bytes:
            # A newline in a text is escaped, so each one here ends a line: no work by line.
            text = _encoder.encode_lines(messages)
            return b"%b%b}\n" % (prefix, text[:-1].replace(b"\n", between))

        return _fitting(_messages(lines), wrap, self._max)

    def appends(self, records: Sequence[Record]) -> Iterator[Append]:
        """The records, in their order. Raises `ProtocolError` for one that becomes too large."""
        return _fitting(
            [self._object(record) for record in records], _encoder.encode_lines, self._max
        )

    def _time(self, received: float) -> dict[str, Any]:
        if not self._time_key:
            return {}
        return {self._time_key: time_text(received) or received}

    def _object(self, record: Record) -> dict[str, Any]:
        made = self._time(record.received)
        if record.time and self._time_key:
            made[self._time_key] = record.time
        made.update(self._peer)
        if record.stream and self._stream_key:
            made[self._stream_key] = record.stream
        message = record.message
        made[self._message_key] = text_or_bytes(
            record.data.removesuffix(b"\n") if message is None else message
        )
        if record.partial:
            made[PARTIAL_KEY] = True
        return made


def _messages(lines: bytes) -> Sequence[Any]:
    """What each line says: text, or what stands for bytes that are none."""
    lines = lines.removesuffix(b"\n")
    try:
        return lines.decode().split("\n")
    except UnicodeDecodeError:
        return [text_or_bytes(line) for line in lines.split(b"\n")]


def _fitting(
    records: Sequence[T], encode: Callable[[Sequence[T]], bytes], limit: int
) -> Iterator[Append]:
    """Appends of as many records as fit."""
    if not records:
        return
    data = encode(records)
    if len(data) <= limit:
        yield Append(data, len(records))
    elif len(records) == 1:
        raise ProtocolError(
            ErrorCode.RECORD_TOO_LARGE,
            f"line becomes a record over the limit limit={limit} bytes={len(data)}",
        )
    else:
        del data
        middle = len(records) // 2
        yield from _fitting(records[:middle], encode, limit)
        yield from _fitting(records[middle:], encode, limit)
