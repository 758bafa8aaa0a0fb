"""Messages out of bytes, however those are cut; and what is refused."""

from __future__ import annotations

import random
import re
import struct
from typing import Any

import msgpack
import pytest

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.messages import Events, Heartbeat, Options, Ping
from hf_agent.ingest.forward.reader import MAX_TAG_BYTES, MessageReader
from hf_agent.ingest.forward.run import Run
from hf_agent.ingest.receive_buffer import SMALLEST, ReceiveBuffer
from support.forward_wire import event_time, pack, packed, stream_of

LIMIT = 1 << 20
ENTRIES = ([event_time(1, 2), {"a": 1}], [3, {"b": "x" * 300, "c": [1, [2], {"d": None}]}])


def plain(message: Any) -> Any:
    """A message without views into the buffer."""
    if isinstance(message, Events):
        return message.tag, bytes(message.entries), message.count, message.options
    return message


def read(data: bytes, cuts: list[int] | None = None, limit: int = LIMIT) -> list[Any]:
    """What comes out of `data`, received up to each of `cuts` and then whole; an error is last."""
    buffer = ReceiveBuffer()
    reader = MessageReader(limit, buffer)
    found: list[Any] = []
    done = 0
    for cut in [*(cuts or []), len(data)]:
        buffer.feed(data[done:cut])
        done = cut
        try:
            while (message := reader.next()) is not None:
                assert plain(reader.next()) == plain(message), "asking again changes nothing"
                found.append(plain(message))
                reader.consume()
        except ProtocolError as error:
            return [*found, error.code]
    return found


def one(data: bytes, limit: int = LIMIT) -> Any:
    found = read(data, limit=limit)
    assert len(found) == 1
    return found[0]


def refusal(data: bytes, limit: int = LIMIT) -> ProtocolError:
    buffer = ReceiveBuffer()
    buffer.feed(data)
    with pytest.raises(ProtocolError) as caught:
        MessageReader(limit, buffer).next()
    return caught.value


PACKED = packed("app.web", *ENTRIES, chunk="abc", size=2)
MESSAGES: dict[str, tuple[bytes, Any]] = {
    "message": (pack(["t", 5, {"a": 1}]), (b"t", pack([5, {"a": 1}]), 1, Options())),
    "message with options": (
        pack(["t", event_time(5), {"a": 1}, {"chunk": "c", "size": 1}]),
        (b"t", pack([event_time(5), {"a": 1}]), 1, Options(size=1, chunk=pack("c"))),
    ),
    "forward": (pack(["t", list(ENTRIES)]), (b"t", stream_of(*ENTRIES), 2, Options())),
    "forward with options": (
        pack(["t", list(ENTRIES), {"chunk": b"\xff\x00"}]),
        (b"t", stream_of(*ENTRIES), 2, Options(chunk=pack(b"\xff\x00"))),
    ),
    "long forward": (
        pack(["t", [[1, {}]] * 70_000]),
        (b"t", stream_of([1, {}]) * 70_000, 70_000, Options()),
    ),
    "packed": (
        PACKED,
        (b"app.web", stream_of(*ENTRIES), None, Options(size=2, chunk=pack("abc"))),
    ),
    "packed as str": (
        b"\x92\xa1t\xda" + struct.pack(">H", len(stream_of(*ENTRIES))) + stream_of(*ENTRIES),
        (b"t", stream_of(*ENTRIES), None, Options()),
    ),
    "compressed": (
        pack(["t", b"...", {"compressed": "gzip", "fluent_signal": 0}]),
        (b"t", b"...", None, Options(compressed="gzip")),
    ),
    "nil": (b"\xc0", Heartbeat()),
    "empty array": (b"\x90", Heartbeat()),
    "no entries": (pack(["", []]), (b"", b"", 0, Options())),
    "nil options": (pack(["t", b"", None]), (b"t", b"", None, Options())),
    "nil in options": (
        pack(["t", b"", {"chunk": None, "size": None, "compressed": None, "metadata": None}]),
        (b"t", b"", None, Options()),
    ),
    "unknown options": (pack(["t", b"", {"x": [1], "y": {}}]), (b"t", b"", None, Options())),
    "metadata": (
        pack(["t", 1, {}, {"metadata": {"a": 1}}]),
        (b"t", pack([1, {}]), 1, Options(metadata=pack({"a": 1}))),
    ),
    "tag that is no text": (pack([b"\xff", b""]), (b"\xff", b"", None, Options())),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_each_mode_is_read(name: str) -> None:
    data, expected = MESSAGES[name]
    assert one(data) == expected


@pytest.mark.parametrize("name", MESSAGES)
def test_it_is_the_same_byte_by_byte_and_with_others_around_it(name: str) -> None:
    data, expected = MESSAGES[name]
    if len(data) > 2000:
        cuts = [1, 2, 3, 4, 5, 6, 7, 8, 9, 100, 513, 2000, 2001, len(data) - 1]
        assert read(data, cuts) == [expected]
        return
    assert read(data, list(range(len(data)))) == [expected]
    around = MESSAGES["message with options"]
    row = around[0] + data + around[0] + data
    assert read(row) == [around[1], expected] * 2
    assert read(row, list(range(len(row)))) == [around[1], expected] * 2


def test_ping_is_read_in_any_pieces() -> None:
    data = pack(["PING", "host", b"salt", "digest", "user", "password"])
    for cuts in ([], list(range(len(data)))):
        (ping,) = read(data, cuts)
        assert isinstance(ping, Ping)
        assert (ping.hostname, ping.username, bytes(ping.salt)) == ("host", "user", pack(b"salt"))


def test_a_message_that_cannot_be_taken_yet_stays() -> None:
    buffer = ReceiveBuffer()
    reader = MessageReader(LIMIT, buffer)
    buffer.feed(PACKED + b"\xc0")
    for _ in range(3):
        message = reader.next()
        assert isinstance(message, Events) and message.tag == b"app.web"
    reader.consume()
    assert reader.next() == Heartbeat()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc1", "no array"),
        (b"\x05", "no array"),
        (b'{"a":1}', "no array"),
        (b'["t",1,{}]', "no array"),
        (b"GET / HTTP/1.1", "no array"),
        (pack({"a": 1}), "no array"),
        (pack([1, 2, {}]), "neither str nor bin"),
        (pack([None, b""]), "neither str nor bin"),
        (pack(["t"]) + b"\xc0", "no known shape elements=1"),
        (pack(["t", 1, {}, {}, {}]), "no known shape elements=5"),
        (pack(["t", 1]), "neither entries nor time and record"),
        (pack(["t", b"", {}, {}]), "options only"),
        (pack(["t", [], {}, {}]), "options only"),
        (pack(["t", b"", 5]), "options cannot be decoded"),
        (pack(["t", b"", [1]]), "options cannot be decoded"),
        (pack(["t", b"", {"size": "x"}]), "options cannot be decoded.*size"),
        (pack(["t", b"", {"size": 1.5}]), "options cannot be decoded.*size"),
        (pack(["t", b"", {"compressed": 1}]), "options cannot be decoded.*compressed"),
        (pack(["t", b"", {"chunk": 5}]), "chunk id is neither str nor bin"),
        (pack(["t", b"", {"chunk": ["x"]}]), "chunk id is neither str nor bin"),
        (pack(["t", b"", {"chunk": "x" * 1030}]), "chunk id is too long"),
        (pack(["t", b"", {"metadata": 5}]), "metadata is no map"),
        (pack(["t", b"", {"x": "y" * 20_000}]), "options takes too much room limit=16384"),
        (b"\x93\xa1t\x01\xc1", "not msgpack"),
        (b"\x92\xa1t\x91\xc1", "not msgpack"),
        (b"\x93\xa1t\xc4\x00\xc1", "begins no value"),
        (pack(["t" * (MAX_TAG_BYTES + 1), b""]), "tag is too long"),
        (b"\x93\xa1t\x01" + b"\x91" * 2000, "nested deeper than 1024 levels"),
        (pack(["PING", 1, b"", "", "", ""]), "PING cannot be decoded"),
        (pack(["PING", "h", b"s" * 20_000, "", "", ""]), "PING takes too much room"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    error = refusal(data)
    assert error.code == "malformed"
    assert re.search(reason, error.message), error.message


def test_a_message_over_the_limit_is_refused_from_its_declared_size() -> None:
    head = b"\x92\xa1t\xc6" + struct.pack(">I", 1 << 31)
    error = refusal(head, limit=1000)
    assert error.code == "frame_too_large"
    assert "limit=1000" in error.message


@pytest.mark.parametrize(
    "data",
    [
        pack(["t", [[1, {"a": "x" * 100}]] * 20]),
        pack(["t", 1, {"a": "x" * 2000}]),
        pack(["t", b"x" * 2000]),
        pack(["t", b"x" * 980, {"chunk": "y" * 100}]),
    ],
)
def test_a_message_over_the_limit_is_refused_however_it_comes(data: bytes) -> None:
    for cuts in ([], [5], [999], [1001], list(range(len(data)))):
        assert read(data, cuts, limit=1000) == ["frame_too_large"]


def test_a_message_at_the_limit_is_taken() -> None:
    for data in (pack(["t", 1, {"a": "x" * 2000}]), packed("t", [1, {"a": "x" * 2000}], size=1)):
        for cuts in ([], [5], list(range(len(data)))):
            assert len(read(data, cuts, limit=len(data))) == 1
            assert read(data, cuts, limit=len(data) - 1) == ["frame_too_large"]


@pytest.mark.parametrize(
    "head",
    [
        b"\x92\xa1t\xdd\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x93\xa1t\x01\xdf\xff\xff\xff\xff",
        b"\x93\xa1t\x01\x81\xa1a\xc6\xff\xff\xff\xff",
        b"\x93\xa1t\xc4\x00\xdf\xff\xff\xff\xff",
    ],
)
def test_what_is_only_declared_takes_no_memory(head: bytes) -> None:
    buffer = ReceiveBuffer()
    buffer.feed(head)
    reader = MessageReader(1 << 40, buffer)
    try:
        assert reader.next() is None
    except ProtocolError:
        pass
    assert buffer.capacity == SMALLEST
    assert buffer.needed == SMALLEST


# Fuzzing.


def mutated(rng: random.Random, data: bytes) -> bytes:
    """`data` with some bytes changed, left out, doubled or put in."""
    work = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(work) + 1)
        choice = rng.random()
        if choice < 0.4 and at < len(work):
            work[at] = rng.choice((rng.randrange(256), work[at] ^ 1, 0xC1, 0xDD, 0xC6, 0xFF))
        elif choice < 0.6:
            del work[at : at + rng.randint(1, 4)]
        elif choice < 0.8:
            work[at:at] = work[max(0, at - 6) : at]
        else:
            work[at:at] = rng.randbytes(rng.randint(1, 4))
    return bytes(work)


SHORT = [data for data, _ in MESSAGES.values() if len(data) < 2000]


@pytest.mark.parametrize("block", range(8))
def test_damaged_bytes_give_the_same_however_they_are_cut_and_no_other_error(block: int) -> None:
    for seed in range(block * 250, block * 250 + 250):
        rng = random.Random(seed)
        data = mutated(rng, b"".join(rng.choices(SHORT, k=3)))
        whole = read(data)
        pieces = sorted(rng.sample(range(len(data) + 1), min(5, len(data))))
        assert read(data, pieces) == whole, f"seed={seed}"
        assert read(data, list(range(len(data)))) == whole, f"seed={seed}"


def test_random_bytes_are_no_other_error() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        data = rng.randbytes(rng.randint(1, 40))
        prefix = rng.choice((b"", b"\x92\xa1t", b"\x93\xa1t", b"\x94\xa1t\x01\x80"))
        assert read(prefix + data) == read(prefix + data, list(range(len(data))))


def test_the_reader_agrees_with_a_streaming_parser_on_where_messages_end() -> None:
    rng = random.Random(2)
    for _ in range(200):
        data = b"".join(rng.choices(SHORT, k=5))
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False)
        unpacker.feed(data)
        ends = [unpacker.tell() for _ in unpacker]
        buffer = ReceiveBuffer()
        buffer.feed(data)
        reader = MessageReader(LIMIT, buffer)
        found = []
        while reader.next() is not None:
            reader.consume()
            found.append(buffer.start)
        assert found == ends


# Runs of messages that are packed alike.


def events_of(run: Run) -> list[Events]:
    """The messages of a run as `next` would give them."""
    return [
        Events(run.tag, entries, None, Options(size=count, chunk=chunk))
        for entries, count, chunk in zip(run.entries, run.counts, run.chunks, strict=True)
    ]


def with_runs(
    data: bytes, cuts: list[int], limit: int = LIMIT, max_bytes: int = LIMIT
) -> list[Any]:
    """As `read`, taking messages that look alike as runs wherever that is possible."""
    buffer = ReceiveBuffer()
    reader = MessageReader(limit, buffer)
    found: list[Any] = []
    done = 0
    for cut in [*cuts, len(data)]:
        buffer.feed(data[done:cut])
        done = cut
        try:
            while True:
                if (run := reader.run(max_bytes)) is not None:
                    found += [plain(events) for events in events_of(run)]
                    reader.consume_run()
                elif (message := reader.next()) is not None:
                    if (run := reader.run(max_bytes)) is not None:
                        reader.part_run()  # which must not show
                    found.append(plain(message))
                    reader.consume()
                else:
                    break
        except ProtocolError as error:
            return [*found, error.code]
    return found


def single(number: int, **options: Any) -> bytes:
    return packed("app.web", [number, {"a": "x" * 300}], **({"chunk": f"{number:08}"} | options))


def test_messages_that_are_packed_alike_are_read_as_a_run() -> None:
    buffer = ReceiveBuffer()
    reader = MessageReader(LIMIT, buffer)
    buffer.feed(b"".join(single(number, size=1) for number in range(20)) + single(20, size=1)[:-1])
    assert reader.run(LIMIT) is None, "of a kind that is not known yet"
    assert reader.next() is not None
    run = reader.run(LIMIT)
    assert run is not None
    assert run.tag == b"app.web"
    assert run.chunks == [pack(f"{number:08}") for number in range(20)]
    assert run.counts == [1] * 20
    reader.consume_run()
    assert reader.run(LIMIT) is None
    assert reader.next() is None, "the last one is not whole"


def test_a_run_that_is_parted_is_read_message_by_message_and_then_there_are_runs_again() -> None:
    buffer = ReceiveBuffer()
    reader = MessageReader(LIMIT, buffer)
    buffer.feed(b"".join(single(number, size=1) for number in range(6)))
    assert reader.next() is not None
    run = reader.run(4 * len(single(0, size=1)))
    assert run is not None
    assert len(run.chunks) == 4, "as many as fit"
    reader.part_run()
    for number in range(4):
        assert reader.run(LIMIT) is None
        message = reader.next()
        assert isinstance(message, Events)
        assert message.options.chunk == pack(f"{number:08}")
        reader.consume()
    run = reader.run(LIMIT)
    assert run is not None
    assert run.chunks == [pack("00000004"), pack("00000005")]


@pytest.mark.parametrize(
    "odd",
    [
        single(1),
        single(1, size=0),
        single(1, size=1 << 20),
        single(1, size=1, chunk=""),
        single(1, size=1, compressed="gzip"),
        single(1, size=1, fluent_signal=1),
        single(1, size=1, metadata={"a": 1}),
        packed("app.web", [1, {}], chunk="00000001", size=1),
        packed("app.wob", [1, {"a": "x" * 300}], chunk="00000001", size=1),
        single(1, size=1)[:-1] + b"\xc1",
        b"\xc1",
    ],
)
def test_what_is_not_alike_ends_a_run_and_is_read_as_ever(odd: bytes) -> None:
    data = single(0, size=1) * 3 + odd + single(2, size=1) * 3
    assert with_runs(data, []) == read(data)


LIMIT_OF_ONE = len(single(0, size=1)) + 10


@pytest.mark.parametrize("block", range(4))
def test_damage_in_a_message_that_is_too_large_gives_the_same_however_it_is_cut(
    block: int,
) -> None:
    for seed in range(block * 500, block * 500 + 500):
        rng = random.Random(seed)
        data = mutated(rng, b"".join(single(number, size=1) for number in range(3)))
        whole = read(data, limit=LIMIT_OF_ONE)
        cuts = sorted(rng.sample(range(len(data) + 1), 5))
        assert read(data, cuts, limit=LIMIT_OF_ONE) == whole, f"{seed=}"
        assert with_runs(data, cuts, LIMIT_OF_ONE) == whole, f"{seed=}"


@pytest.mark.parametrize(("limit", "code"), [(400, "frame_too_large"), (700, "malformed")])
def test_what_stands_behind_the_limit_of_a_message_is_not_looked_at(limit: int, code: str) -> None:
    # A tag, a time, and as the record an array of which something is no value.
    data = b"\x93\xa1t\x01\xdc\x04\x00" + b"\xc0" * 500 + b"\xc1" * 300
    for cut in range(len(data) + 1):
        assert read(data, [cut], limit=limit) == [code], f"{cut=}"


def test_runs_are_the_same_however_the_bytes_are_cut_or_damaged() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    for _ in range(300):
        data = b"".join(single(number, size=1) for number in range(4))
        if rng.random() < 0.7:
            data = mutated(rng, data)
        limit = rng.choice((LIMIT, LIMIT, 360))
        whole = read(data, limit=limit)
        assert with_runs(data, [], limit) == whole
        cuts = sorted(rng.sample(range(len(data) + 1), 5))
        assert with_runs(data, cuts, limit) == whole
        assert with_runs(data, cuts, limit, rng.randrange(2 * 360)) == whole
