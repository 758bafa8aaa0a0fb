"""The parsers of the wire protocols, all alike: pieces of bytes in, events out.

A parser that is added is one more entry of `TARGETS`: everything in this folder then runs on it.
"""

from __future__ import annotations

import gzip
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from msgspec import Raw

from hf_agent.config import Forward, Lines
from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.append_messages import Hello
from hf_agent.ingest.append_protocol import (
    FrameDecoder,
    decode_agent,
    decode_client,
    decode_hello_options,
)
from hf_agent.ingest.forward.chunk import check_options, parts
from hf_agent.ingest.forward.formats import Format, fallback_format, own_format
from hf_agent.ingest.forward.messages import Events, ForwardMessage, Options
from hf_agent.ingest.forward.reader import MessageReader
from hf_agent.ingest.forward.run import Run
from hf_agent.ingest.lines.parser import LinesParser, StreamNamed
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from hf_agent.ingest.syslog.framing import FramingEvent, Messages, Part, PlainLines, SyslogFraming
from hf_agent.ingest.syslog.json_line import json_line
from hf_agent.ingest.syslog.message import parse_message
from support.assembled import Assembled
from support.forward_wire import event_time, pack, packed, stream_of
from support.wire import frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["TARGETS", "Target"]

LIMIT: Final = 64 << 10
"""Bytes of one message."""
UNPACKED: Final = 256 << 10


@dataclass(frozen=True)
class Target:
    """One parser."""

    events: Callable[[Sequence[bytes]], list[Any]]
    """What comes out of pieces of bytes; the code of the protocol's own error is last.

    Comparable, with nothing in it of how the bytes were cut.
    """
    corpus: Sequence[bytes]
    """What a well-behaved peer may say."""
    structures: SearchStrategy[bytes]
    """The same, of any content."""
    held: int
    """Bytes of memory that it may hold, whatever it is sent."""


# Protocol `append`.


def _append_events(
    make: Callable[[ReceiveBuffer], FrameDecoder[Any]], pieces: Sequence[bytes]
) -> list[Any]:
    decoder = make(ReceiveBuffer())
    events: list[Any] = []
    try:
        for piece in pieces:
            decoder.buffer.feed(piece)
            while (message := decoder.next()) is not None:
                events.append(_without_views(message))
                if isinstance(message, Hello):
                    events.append(decode_hello_options(message))
                decoder.consume()
    except ProtocolError as error:
        events.append(str(error.code))
    return events


def _without_views(message: Any) -> tuple[Any, ...]:
    fields = (getattr(message, name) for name in message.__struct_fields__)
    values = (bytes(field) if isinstance(field, memoryview | Raw) else field for field in fields)
    return (type(message).__name__, *map(repr, values))


_FROM_CLIENTS: Final = (
    frame("hello", 1, {"producer": "p-1"}),
    frame("append", 1, "app", b"one"),
    frame("append", 2, "a/b", b"x" * 300, "store"),
    frame("batch", 3, "app", [1, 0, 2], b"abc"),
    frame("flush", 1, None),
    frame("flush", 2, "app"),
    frame("status", 4),
)
_LIMITS: Final = {
    "max_record_bytes": 1,
    "max_frame_bytes": 2,
    "max_batch_records": 3,
    "node": "n",
    "last_id": 4,
    "agent_version": "0",
}
_FROM_AGENTS: Final = (
    frame("hello", 1, _LIMITS),
    frame("ack", 5, {"app": 10, "a/b": 11}),
    frame("stored", 5, {"app": 10}),
    frame("error", "malformed", "no", None),
    frame("flushed", 1),
    frame("status", 1, {"streams": [1, {"x": None}], "ready": True}),
)
_streams = st.text("abc/._-", min_size=1, max_size=20)
_from_clients = st.one_of(
    st.builds(partial(frame, "append"), st.integers(1, 1 << 62), _streams, st.binary()),
    st.builds(partial(frame, "flush"), st.integers(1, 1 << 62), st.none() | _streams),
    st.binary(min_size=1).map(lambda data: frame("batch", 1, "app", [0, len(data)], data)),
)
_from_agents = st.one_of(
    st.builds(
        partial(frame, "ack"),
        st.integers(0, 1 << 62),
        st.dictionaries(_streams, st.integers(0, 1 << 62), max_size=5),
    ),
    st.builds(partial(frame, "error"), st.text(), st.text(), st.none() | st.integers(0, 9)),
)


# Protocol `lines`.


def _line_events(named: bool, pieces: Sequence[bytes]) -> list[Any]:
    parser = LinesParser(1000, ReceiveBuffer(), named=named)
    name, lines, count = "", b"", 0
    error = ""
    try:
        for piece in pieces:
            parser.buffer.feed(piece)
            while (event := parser.next()) is not None:
                if isinstance(event, StreamNamed):
                    name = event.stream
                else:
                    lines += event.data
                    count += event.records
                parser.consume()
        rest = parser.rest()
        if rest is not None:
            lines += rest.data
            count += rest.records
    except ProtocolError as refusal:
        error = str(refusal.code)
    return [name, lines, count, error]


_LINES: Final = (b"app/web\n", b"one\n", b"\n\r\n\x00\xff\n", b"x" * 999 + b"\n", b"rest")


def _assembled_events(config: Lines, pieces: Sequence[bytes]) -> list[Any]:
    made = Assembled(config, max_record_bytes=3000)
    try:
        for piece in pieces:
            made.receive(piece, piece_bytes=500)
        made.end()
    except ProtocolError as error:
        return [made.stored, made.records, str(error.code)]
    return [made.stored, made.records, made.ended, made.malformed, ""]


_JSON: Final = Lines(format="json")
_JOINED: Final = Lines(start_pattern="[a-m]|^\\d\\d", max_group_lines=5, max_group_bytes=200)
_CRI: Final = Lines(cri=True, max_group_lines=5, max_group_bytes=200)
_CRI_JOINED: Final = Lines(cri=True, start_pattern="[a-m]", format="json", max_group_lines=5)
_MANY_LINES: Final = (
    *_LINES,
    b"2026 start\n at a\n at b\nc\n",
    b"2026-01-31T12:00:00.1Z stdout P part \n2026-01-31T12:00:00.2Z stdout F end\n",
    b"2026-01-31T12:00:00.3Z stderr F a\n2026-01-31T12:00:00.3Z stderr P \xff\n",
    "2026 stdout F é\u2028\x01\n".encode(),
)
_lines = st.lists(
    st.one_of(
        st.binary(max_size=99).map(lambda b: b + b"\n"),
        st.text(max_size=20).map(lambda text: f"{text}\n".encode()),
        st.builds(
            lambda stream, tag, log: b"2026 %b %b %b\n" % (stream, tag, log.replace(b"\n", b"")),
            st.sampled_from((b"stdout", b"stderr")),
            st.sampled_from((b"P", b"F")),
            st.binary(max_size=99),
        ),
    ),
    min_size=1,
    max_size=30,
).map(b"".join)


# Protocol `forward`: messages, and what their events become in each format.


_FORMATS: Final = (
    own_format(Forward()),
    own_format(Forward(format="msgpack")),
    own_format(Forward(message_key="log", tag_key="tag")),
    fallback_format(Forward(format="msgpack")),
)
"""Shared, as by a socket's connections: what they remember must not show either."""


def _forward_events(pieces: Sequence[bytes]) -> list[Any]:
    reader = MessageReader(LIMIT, ReceiveBuffer())
    found: list[Any] = []

    def take(message: ForwardMessage) -> None:
        if isinstance(message, Events):
            check_options(message)
            options = _without_views(message.options)
            found.append((message.tag, options, *(_text(message, each) for each in _FORMATS)))
        else:
            found.append(_without_views(message))

    def take_run(run: Run) -> None:
        for entries, count, chunk in zip(run.entries, run.counts, run.chunks, strict=True):
            take(Events(run.tag, entries, None, Options(size=count, chunk=chunk)))

    try:
        for piece in pieces:
            reader.buffer.feed(piece)
            while True:
                if (run := reader.run(LIMIT)) is not None:
                    take_run(run)
                    reader.consume_run()
                elif (message := reader.next()) is not None:
                    take(message)
                    reader.consume()
                else:
                    break
    except ProtocolError as error:
        found.append(str(error.code))
    return found


def _text(events: Events, format: Format) -> bytes | str:
    """What the events become, or why they are refused."""
    steps = parts(events, format, max_part_bytes=16 << 10, max_unpacked_bytes=UNPACKED, known=0)
    try:
        return b"".join([step.data for step in steps if step is not None])
    except ProtocolError as error:
        return str(error.code)


_ENTRIES: Final = (
    [
        event_time(1_700_000_000, 5),
        {"log": "grün\n", "n": 2**64 - 1, "x": [1.5, None, {"a": b"\xff"}]},
    ],
    [3, {"time": 1, "$x": float("nan"), "tag": True}],
    [[4.5, {"m": 1}], {"log": b"\xff\n"}],
)
_FORWARD: Final = (
    b"\xc0\x90",
    pack(["t", 5, {"a": 1}]),
    pack(["t", event_time(5), {"a": {"b": []}}, {"chunk": "c", "size": 1}]),
    pack(["t", list(_ENTRIES), {"chunk": b"\xff"}]),
    packed("app.web", *_ENTRIES, chunk="abc", size=3, metadata={"k": "v"}),
    packed("app.web", [1, {"log": "x" * 300}], chunk="00000001", size=1),
    packed("app.web", [1, {"log": "y" * 300}], chunk="00000002", size=1) * 2,
    pack(["t", gzip.compress(stream_of(*_ENTRIES)) * 2, {"compressed": "gzip", "chunk": "z"}]),
    pack(["t", zstd.compress(stream_of(*_ENTRIES)) * 2, {"compressed": "zstd"}]),
    pack(["PING", "host", b"salt", "digest", "user", "password"]),
    b"\x92\xa1t\xda" + struct.pack(">H", len(stream_of([1, {}]))) + stream_of([1, {}]),
)
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats()
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
_times = st.one_of(
    st.integers(0, 1 << 34),
    st.floats(0, 1e10),
    st.builds(event_time, st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1)),
)
_entries = st.lists(
    st.tuples(_times, st.dictionaries(st.text(), _values, max_size=4)), min_size=1, max_size=4
)
_from_shippers = st.one_of(
    _entries.map(lambda entries: pack(["app.web", entries, {"chunk": "c"}])),
    _entries.map(lambda entries: packed("app.web", *entries, chunk="c", size=len(entries))),
    _entries.map(
        lambda entries: pack(
            ["t", gzip.compress(stream_of(*entries), 1), {"compressed": "gzip", "chunk": "c"}]
        )
    ),
    _entries.map(lambda entries: pack(["t", *entries[0]])),
)


# Protocol `syslog`: it has no errors.


def _syslog_events(plain: bool, pieces: Sequence[bytes]) -> list[Any]:
    buffer = ReceiveBuffer()
    parser = SyslogFraming(LIMIT, buffer, plain=plain)
    events: list[Any] = []

    def take(event: FramingEvent) -> None:
        if isinstance(event, PlainLines):
            event = Messages(bytes(event.data).split(b"\n")[:-1])
        if isinstance(event, Part):
            events.append(event)
        else:
            events.extend(json_line(text, parse_message(text), "") for text in event.messages)
        parser.consume()

    for piece in pieces:
        buffer.feed(piece)
        while (event := parser.next()) is not None:
            take(event)
    if (rest := parser.rest()) is not None:
        take(rest)
    return events


_SYSLOG: Final = (
    b"<34>Oct 11 22:14:15 mymachine su[1]: 'su root' failed\n",
    b'<165>1 2003-10-11T22:14:15.003Z h app 1 ID [a@1 k="\\"]" e=""][b] text\n',
    b"16 <14>app: a\nb\0 cd<14>x\0",
    b"no priority\n0 zero\n12x\n\n",
    b"99999 " + b"x" * 300,
)
_syslog = st.one_of(
    st.binary(max_size=999).map(lambda b: b"%d " % (len(b) + 5) + b"<14>x" + b),
    st.binary(max_size=999).map(lambda b: b"<14>1 - - - - - - " + b + b"\n"),
    st.binary(max_size=999).map(lambda b: b"<14>Oct 11 22:14:15 h app[1]: " + b + b"\n"),
)

TARGETS: Final = {
    "syslog": Target(partial(_syslog_events, False), _SYSLOG, _syslog, 4 * LIMIT),
    "syslog, plain": Target(partial(_syslog_events, True), _SYSLOG, _syslog, 4 * LIMIT),
    "append, from clients": Target(
        partial(_append_events, partial(decode_client, LIMIT)),
        _FROM_CLIENTS,
        _from_clients,
        4 * LIMIT,
    ),
    "append, from agents": Target(
        partial(_append_events, decode_agent), _FROM_AGENTS, _from_agents, 4 * LIMIT
    ),
    "lines": Target(
        partial(_line_events, False),
        _LINES,
        st.binary(max_size=999).map(lambda b: b + b"\n"),
        LIMIT,
    ),
    "lines, named": Target(
        partial(_line_events, True), _LINES, _streams.map(lambda name: f"{name}\n".encode()), LIMIT
    ),
    **{
        f"lines, {name}": Target(
            partial(_assembled_events, config), _MANY_LINES, _lines, 24 * UNPACKED
        )
        for name, config in (
            ("json", _JSON),
            ("joined", _JOINED),
            ("cri", _CRI),
            ("cri, joined, json", _CRI_JOINED),
        )
    },
    "forward": Target(_forward_events, _FORWARD, _from_shippers, 24 * UNPACKED),
}
