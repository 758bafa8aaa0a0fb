"""The append protocol's decoder and encoders, without any I/O."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.append_messages import (
    MAX_BATCH_RECORDS,
    MAX_ID,
    MAX_MULTI_STREAMS,
    Ack,
    AgentMessage,
    Append,
    Batch,
    ClientMessage,
    Error,
    Flush,
    Flushed,
    Hello,
    Limits,
    Multi,
    Part,
    Resume,
    Status,
    StatusAnswer,
    Stored,
    Welcome,
)
from hf_agent.ingest.append_protocol import (
    append_frame,
    batch_frame,
    decode_agent,
    decode_client,
    decode_hello_options,
    encode,
    multi_frame,
)
from hf_agent.ingest.receive_buffer import ReceiveBuffer
from support.wire import frame

LIMIT = 1 << 20


def plain(message: ClientMessage) -> tuple[Any, ...]:
    """The message with copies of what it views, for comparing."""
    fields = (getattr(message, name) for name in message.__struct_fields__)
    values = (bytes(field) if isinstance(field, memoryview | Raw) else field for field in fields)
    return (type(message), *values)


def decode_all(*chunks: bytes) -> list[tuple[Any, ...]]:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    messages = []
    for chunk in chunks:
        decoder.buffer.feed(chunk)
        while (message := decoder.next()) is not None:
            messages.append(plain(message))
            decoder.consume()
    return messages


WIRE = b"".join(
    (
        frame("hello", 1, {"producer": "p-1"}),
        frame("append", 1, "app", b"one"),
        frame("append", 2, "a/b", b"x" * 300, "store"),
        frame("batch", 3, "app", [1, 0, 2], b"abc"),
        frame("batch", 6, "app", [70_000], b"y" * 70_000, "store"),
        frame("flush", 1, None),
        frame("flush", 2, "app"),
        frame("flush", 3),
        frame("status", 4),
        frame("append", MAX_ID, "app", b""),
        frame("append", 9, "app", b"x", "wal", 0),
        frame("batch", 9, "app", [1], b"x", "wal", MAX_ID),
        frame("multi", 10, [["a", 1], ["b", 2, 7], ["c", 0, None]], b"xyz", "store"),
        frame("resume", 10),
    )
)
MESSAGES = [
    (Hello, 1, msgpack.packb({"producer": "p-1"})),
    (Append, 1, "app", b"one", "wal", None),
    (Append, 2, "a/b", b"x" * 300, "store", None),
    (Batch, 3, "app", [1, 0, 2], b"abc", "wal", None),
    (Batch, 6, "app", [70_000], b"y" * 70_000, "store", None),
    (Flush, 1, None),
    (Flush, 2, "app"),
    (Flush, 3, None),
    (Status, 4),
    (Append, MAX_ID, "app", b"", "wal", None),
    (Append, 9, "app", b"x", "wal", 0),
    (Batch, 9, "app", [1], b"x", "wal", MAX_ID),
    (Multi, 10, [Part("a", 1), Part("b", 2, 7), Part("c", 0)], b"xyz", "store"),
    (Resume, 10),
]


def test_messages_are_decoded_whole() -> None:
    assert decode_all(WIRE) == MESSAGES


def test_messages_are_decoded_byte_by_byte() -> None:
    head = WIRE.index(b"y" * 100) + 100
    chunks = [WIRE[place : place + 1] for place in range(head)]
    chunks += [WIRE[head:-200]] + [WIRE[len(WIRE) - 200 + place :][:1] for place in range(200)]
    assert decode_all(*chunks) == MESSAGES


def test_messages_are_decoded_at_random_cuts() -> None:
    for seed in range(100):
        rng = random.Random(seed)
        cuts = sorted(rng.randrange(len(WIRE)) for _ in range(rng.randint(1, 30)))
        chunks = [WIRE[a:b] for a, b in zip([0, *cuts], [*cuts, len(WIRE)], strict=True)]
        assert decode_all(*chunks) == MESSAGES, f"seed={seed}"


def test_trailing_bytes_are_left_for_the_next_message() -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(frame("status", 1) + frame("status", 2)[:5])
    message = decoder.next()
    assert isinstance(message, Status) and message.request == 1
    decoder.consume()
    assert decoder.next() is None
    assert len(decoder.buffer) == 5
    decoder.buffer.feed(frame("status", 2)[5:])
    message = decoder.next()
    assert isinstance(message, Status) and message.request == 2


def test_a_message_that_is_not_consumed_is_given_again() -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(frame("append", 1, "app", b"data"))
    first, again = decoder.next(), decoder.next()
    assert first is not None and again is not None
    assert plain(first) == plain(again)


def test_payloads_are_views_of_the_buffer_and_not_copies() -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(frame("append", 1, "app", b"z" * 1000))
    message = decoder.next()
    assert isinstance(message, Append)
    assert message.data.obj is decoder.buffer.data


def test_events_are_frozen() -> None:
    message = Append(1, "app", memoryview(b""))
    with pytest.raises(AttributeError):
        message.id = 2  # type: ignore[misc]


def test_fields_that_a_later_version_adds_are_skipped() -> None:
    later = frame("append", 1, "app", b"x", "wal", 3, {"new": [1, 2]}, None)
    later += frame("multi", 2, [["a", 1, None, {"new": []}]], b"x", "wal", [1])
    assert decode_all(later) == [
        (Append, 1, "app", b"x", "wal", 3),
        (Multi, 2, [Part("a", 1)], b"x", "wal"),
    ]
    hello = Hello(1, Raw(msgpack.packb({"producer": "p", "shoe_size": [43]})))
    assert decode_hello_options(hello).producer == "p"


def test_a_frame_over_the_limit_is_refused_before_it_arrives() -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(frame("status", 1) + struct.pack(">I", LIMIT + 1))
    assert decoder.next() is not None
    decoder.consume()
    with pytest.raises(ProtocolError) as caught:
        decoder.next()
    assert caught.value.code is ErrorCode.FRAME_TOO_LARGE
    assert "limit=1048576" in str(caught.value)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def packed(*message: Any) -> bytes:
    return frame(*message)[4:]


MALFORMED = {
    "empty body": b"",
    "not an array": b"\x80",
    "empty array": b"\x90",
    "reserved byte": b"\xc1",
    "truncated array": b"\x95\xa6append\x01",
    "two values": packed("status", 1) + b"\xc0",
    "unknown tag": packed("nope", 1),
    "tag is a number": packed(1, 1),
    "no fields": packed("append"),
    "id zero": packed("append", 0, "app", b""),
    "id negative": packed("append", -1, "app", b""),
    "id too large": packed("append", MAX_ID + 1, "app", b""),
    "id is true": packed("append", True, "app", b""),
    "id is a float": packed("append", 1.0, "app", b""),
    "data is text": packed("append", 1, "app", "text"),
    "stream is bytes": packed("append", 1, b"app", b""),
    "stream is not UTF-8": b"\x94\xa6append\x01\xa1\xff\xc4\x00",
    "declared payload is larger than the frame": b"\x94\xa6append\x01\xa1a\xc6\xff\xff\xff\xff",
    "declared stream is larger than the frame": b"\x94\xa6append\x01\xdb\xff\xff\xff\xff",
    "no lengths": packed("batch", 1, "app", [], b""),
    "negative length": packed("batch", 1, "app", [-1], b""),
    "too many lengths": packed("batch", 1, "app", [0] * (MAX_BATCH_RECORDS + 1), b""),
    "four billion lengths declared": b"\x95\xa5batch\x01\xa1a\xdd\xff\xff\xff\xff",
    "no parts": packed("multi", 1, [], b""),
    "too many parts": packed("multi", 1, [["a", 0]] * (MAX_MULTI_STREAMS + 1), b""),
    "a part without a length": packed("multi", 1, [["a"]], b""),
    "a part that is no array": packed("multi", 1, ["a"], b""),
    "negative part": packed("multi", 1, [["a", -1]], b""),
    "negative expectation": packed("append", 1, "a", b"", "wal", -1),
    "expectation that is too large": packed("append", 1, "a", b"", "wal", MAX_ID + 1),
    "expectation that is text": packed("multi", 1, [["a", 0, "0"]], b""),
    "four billion parts declared": b"\x94\xa5multi\x01\xdd\xff\xff\xff\xff",
    "resume without an id": packed("resume"),
    "deep nesting": b"\x97\xa6append\x01\xa1a\xc4\x00\xa3wal\xc0" + b"\x91" * 100_000 + b"\x00",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_are_told_as_such(body: bytes) -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(framed(body))
    with pytest.raises(ProtocolError) as caught:
        decoder.next()
    assert caught.value.code is ErrorCode.MALFORMED
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        b"\xc1",
        b"\x90",
        packed("x"),
        msgpack.packb({"producer": 7}),
        b"\x81" * 50_000,
        b"\x81\xa1\xff",
    ],
)
def test_malformed_hello_options_are_told_as_such(options: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_hello_options(Hello(1, Raw(options)))


def test_declared_sizes_allocate_nothing() -> None:
    bombs = (
        b"\x95\xa5batch\x01\xa1a\xdd\xff\xff\xff\xff",
        b"\x97\xa6append\x01\xa1a\xc4\x00\xa3wal\xc0\xdd\xff\xff\xff\xff",
        b"\x94\xa5multi\x01\xdd\xff\xff\xff\xff",
        b"\x93\xa5hello\x01\xdf\xff\xff\xff\xff",
        b"\x93\xa5hello\x01\x81\xa1k\xdd\xff\xff\xff\xff",
    )
    tracemalloc.start()
    try:
        for body in bombs:
            decoder = decode_client(LIMIT, ReceiveBuffer())
            decoder.buffer.feed(framed(body))
            with pytest.raises(ProtocolError):
                decoder.next()
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "body",
    [
        b"\x94\xa5multi\x01\xdd\x00\x03\x00\x00" + b"\x92\xa0\x00" * 196_608 + b"\xc4\x00",
        b"\x95\xa5batch\x01\xa1a\xdd\x00\x0f\x00\x00" + b"\x00" * 983_040 + b"\xc4\x00",
    ],
    ids=["parts", "lengths"],
)
def test_lists_that_are_too_long_are_refused_before_they_become_objects(body: bytes) -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(framed(body))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decoder.next()
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=20))
@example([struct.pack(">I", 3) + b"\x93\xa5h"])
def test_nothing_but_a_protocol_error_comes_out_of_random_bytes(chunks: list[bytes]) -> None:
    decoder = decode_client(LIMIT, ReceiveBuffer())
    try:
        for chunk in chunks:
            decoder.buffer.feed(chunk)
            while decoder.next() is not None:
                decoder.consume()
    except ProtocolError:
        return
    assert len(decoder.buffer) <= sum(map(len, chunks))


@settings(deadline=None)
@given(st.data())
def test_nothing_but_a_protocol_error_comes_out_of_damaged_messages(data: st.DataObject) -> None:
    wire = bytearray(WIRE[:600])
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    decoder = decode_client(LIMIT, ReceiveBuffer())
    decoder.buffer.feed(bytes(wire))
    try:
        while (message := decoder.next()) is not None:
            if isinstance(message, Hello):
                decode_hello_options(message)
            decoder.consume()
    except ProtocolError:
        return


def test_what_clients_send_is_what_the_page_says() -> None:
    head, tail = append_frame(7, "app", 3, "store")
    assert msgpack.unpackb((head + b"abc" + tail)[4:]) == ["append", 7, "app", b"abc", "store"]
    assert struct.unpack(">I", head[:4]) == (len(head) - 4 + 3 + len(tail),)
    head, tail = batch_frame(7, "app", [1, 2], 3, "wal")
    assert msgpack.unpackb((head + b"abc" + tail)[4:]) == ["batch", 7, "app", [1, 2], b"abc", "wal"]
    assert struct.unpack(">I", head[:4]) == (len(head) - 4 + 3 + len(tail),)
    head, tail = append_frame(7, "app", 3, "wal", 9)
    assert msgpack.unpackb((head + b"abc" + tail)[4:]) == ["append", 7, "app", b"abc", "wal", 9]
    head, tail = batch_frame(7, "app", [1, 2], 3, "wal", 0)
    assert msgpack.unpackb((head + b"abc" + tail)[4:])[5:] == ["wal", 0]
    head, tail = multi_frame(7, [Part("a", 1), Part("b", 2, 8)], 3, "store")
    parts = [["a", 1, None], ["b", 2, 8]]
    assert msgpack.unpackb((head + b"abc" + tail)[4:]) == ["multi", 7, parts, b"abc", "store"]


def test_an_agent_of_before_features_is_understood() -> None:
    limits = {
        "max_record_bytes": 1,
        "max_frame_bytes": 2,
        "max_batch_records": 3,
        "node": "node",
        "last_id": 4,
        "agent_version": "0.1",
    }
    decoder = decode_agent(ReceiveBuffer())
    decoder.buffer.feed(frame("hello", 1, limits) + frame("error", "bad_id", "text"))
    welcome = decoder.next()
    assert isinstance(welcome, Welcome)
    assert (welcome.limits.features, welcome.limits.max_multi_streams) == ((), 0)
    decoder.consume()
    assert decoder.next() == Error("bad_id", "text")


def test_what_agents_send_is_what_the_page_says_and_is_read_back() -> None:
    limits = Limits(1, 2, 3, "node", 4, "0.1", 5, ("x",))
    welcome = {
        "max_record_bytes": 1,
        "max_frame_bytes": 2,
        "max_batch_records": 3,
        "node": "node",
        "last_id": 4,
        "agent_version": "0.1",
        "max_multi_streams": 5,
        "features": ["x"],
    }
    expected: dict[AgentMessage, list[Any]] = {
        Welcome(1, limits): ["hello", 1, welcome],
        Error("bad_id", "text", 4): ["error", "bad_id", "text", 4],
        Flushed(9): ["flushed", 9],
    }
    pairs = [*expected.items(), (Ack(3, {"a": 5}), ["ack", 3, {"a": 5}])]
    moved = Error("position_mismatch", "text", 4, {"a": 5})
    pairs += [(moved, ["error", "position_mismatch", "text", 4, {"a": 5}])]
    pairs += [(Stored(3, {"a": 5}), ["stored", 3, {"a": 5}])]
    pairs += [(StatusAnswer(3, {"a": [1, None]}), ["status", 3, {"a": [1, None]}])]
    decoder = decode_agent(ReceiveBuffer())
    for message, plain_message in pairs:
        wire = encode(message)
        assert msgpack.unpackb(wire[4:]) == plain_message
        decoder.buffer.feed(wire)
        assert decoder.next() == message
        decoder.consume()
