"""Raw messages and msgpack; and that no format fails in other ways, whatever comes."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

import msgpack
import pytest

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.formats import Format, fallback_format, own_format
from support.forward_wire import event_time, pack, stream_of


@dataclass(frozen=True)
class Keys:
    """A configuration."""

    format: str = "json"
    time_key: str = "time"
    tag_key: str = ""
    message_key: str = ""


RAW = own_format(Keys(message_key="log"))
PACKED = own_format(Keys(format="msgpack"))


def formatted(format: Format, *entries: Any, tag: bytes = b"t", metadata: bytes = b"") -> bytes:
    return format.format(Slice(stream_of(*entries), len(entries)), tag, metadata)


# Raw.


def test_raw_is_the_message_and_nothing_else() -> None:
    entries = [[1, {"a": 1, "log": "one"}], [2, {"log": "two\n", "time": 3}], [3, {"log": ""}]]
    assert formatted(RAW, *entries) == b"one\ntwo\n\n"


def test_raw_keeps_bytes_as_they_are() -> None:
    assert formatted(RAW, [1, {"log": b"\xff\x00"}], [2, {"log": "ü"}]) == b"\xff\x00\n\xc3\xbc\n"
    invalid = b"\x92\x01\x81\xa3log\xa2\xff\xfe"
    assert RAW.format(Slice(invalid, 1), b"t", b"") == b"\xff\xfe\n"


def test_raw_keeps_newlines_within_a_message() -> None:
    assert formatted(RAW, [1, {"log": "one\ntwo"}]) == b"one\ntwo\n"


@pytest.mark.parametrize("record", [{"a": 1}, {}, {"log": 5}, {"log": None}, {"log": {"x": 1}}])
def test_an_event_without_a_message_is_written_whole(record: dict[str, Any]) -> None:
    first, second, rest = formatted(RAW, [1, {"log": "x"}], [2, record]).split(b"\n")
    assert (first, rest) == (b"x", b"")
    assert json.loads(second) == {"time": "1970-01-01T00:00:02.000000000Z", **record}


def test_of_a_message_key_that_stands_twice_the_last_one_counts() -> None:
    twice = b"\x92\x01\x82\xa3log\xa1a\xa3log\xa1b"
    assert RAW.format(Slice(twice, 1), b"t", b"") == b"b\n"
    odd = twice + pack([1, {"log": b"\xff"}])
    assert RAW.format(Slice(odd, 2), b"t", b"") == b"b\n\xff\n"


# Msgpack.


def test_msgpack_is_what_came_byte_for_byte() -> None:
    entries = [
        [event_time(1, 2), {"a": b"\xff", "b": {1: [float("nan")]}}],
        [5, {}],
        [5.5, {"a": None}],
        [[6, {"m": 1}], {"c": msgpack.ExtType(9, b"x")}],
        [msgpack.Timestamp(7), {}],
    ]
    data = stream_of(*entries) + b"\x92\x01\x82\xa1a\x01\xa1a\x02"
    assert PACKED.format(Slice(data, 6), b"t", b"") == data


def test_in_the_fallback_stream_msgpack_has_the_tag() -> None:
    fallback = fallback_format(Keys(format="msgpack"))
    data = formatted(fallback, [1, {"a": 1}], [event_time(2), {}], tag=b"no name")
    assert list(stream_values(data)) == [["no name", 1, {"a": 1}], ["no name", event_time(2), {}]]
    assert next(stream_values(formatted(fallback, [1, {}], tag=b"\xff")))[0] == b"\xff"


def test_msgpack_keeps_metadata_of_a_message_with_each_event() -> None:
    data = formatted(PACKED, [1, {"a": 1}], [[2, {"own": 1}], {}], metadata=pack({"m": 1}))
    assert list(stream_values(data)) == [[[1, {"m": 1}], {"a": 1}], [[2, {"own": 1}], {}]]


def stream_values(data: bytes) -> Any:
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(data)
    return unpacker


# The fallback stream.


def test_in_the_fallback_stream_events_are_whole_and_have_their_tag() -> None:
    for keys in (Keys(), Keys(message_key="log")):
        line = json.loads(formatted(fallback_format(keys), [1, {"log": "x"}], tag=b"no name"))
        assert line == {"time": "1970-01-01T00:00:01.000000000Z", "tag": "no name", "log": "x"}
    assert b'"@tag":"no name"' in formatted(
        fallback_format(Keys(tag_key="@tag")), [1, {}], tag=b"no name"
    )
    assert b'"tag":{"$bytes":"/w=="}' in formatted(fallback_format(Keys()), [1, {}], tag=b"\xff")
    assert formatted(fallback_format(Keys(time_key="tag")), [1, {}]) == (
        b'{"tag":"1970-01-01T00:00:01.000000000Z","_tag":"t"}\n'
    )


# Several messages at once.


def pieces_and_counts(*slices: Slice) -> tuple[list[memoryview | bytes], list[int]]:
    return [each.data for each in slices], [each.number for each in slices]


def test_messages_together_are_as_each_by_itself() -> None:
    format = own_format(Keys(tag_key="tag"))
    slices = [
        Slice(stream_of(*([event_time(n, m), {"n": n}] for m in range(n))), n) for n in range(1, 9)
    ]
    together = format.format_many(*pieces_and_counts(*slices), b"t")
    assert together == b"".join(format.format(each, b"t", b"") for each in slices)


def test_many_messages_of_records_with_the_same_keys_are_as_each_by_itself() -> None:
    rows = [
        [[event_time(n // 7, m), {"n": n, "log": f"{m}", "in": {"a": [m]}}] for m in range(n % 4)]
        for n in range(1, 80)
        if n % 4
    ]
    counts = [len(row) for row in rows]
    for odd in (None, {"log": "other keys"}, {"n": float("nan"), "log": "x", "in": None}):
        if odd is not None:
            rows[40][0][1] = odd
        pieces = [stream_of(*row) for row in rows]
        for keys in (
            Keys(),
            Keys(tag_key="tag"),
            Keys(time_key="", tag_key="t"),
            Keys(time_key=""),
        ):
            one_by_one = own_format(keys)
            slices = map(Slice, pieces, counts)
            wanted = b"".join(one_by_one.format(each, b"t", b"") for each in slices)
            together = own_format(keys)
            for _ in range(3):  # a class is made at the second sight
                found = together.format_many(pieces, counts, b"t")
                if odd is not None and "n" in odd:
                    assert found is None
                else:
                    assert found == wanted


def test_sizes_that_are_wrong_by_themselves_and_right_together_are_not_taken() -> None:
    first, second = stream_of([1, {"a": 1}]), stream_of([2, {}], [3, {}])
    format = own_format(Keys())
    assert format.format_many([first, second], [1, 2], b"t") is not None
    assert format.format_many([first, second], [2, 1], b"t") is None
    assert format.format_many([second, first], [1, 2], b"t") is None


# Fuzzing.

FORMATS = {
    "json": own_format(Keys()),
    "json with tag": own_format(Keys(tag_key="tag")),
    "raw": RAW,
    "msgpack": PACKED,
    "fallback": fallback_format(Keys()),
    "fallback msgpack": fallback_format(Keys(format="msgpack")),
}
SEEDS = [
    [event_time(1, 2), {"log": "text", "n": 1, "in": {"a": [1, 2.5, None, True]}}],
    [5, {"log": b"\xff", "x": msgpack.ExtType(3, b"abc")}],
    [[6, {"m": "x"}], {"k": {1: 2}, "$a": float("nan")}],
    [2.5, {"time": "mine", "log": "ü" * 40}],
]


def outcome(format: Format, data: bytes, number: int) -> Any:
    try:
        return format.format(Slice(data, number), b"t", b"")
    except ProtocolError as error:
        return error.code


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_entries_are_taken_or_refused_and_nothing_else(name: str) -> None:
    format = FORMATS[name]
    for seed in range(1500):
        rng = random.Random(seed)
        data = bytearray(stream_of(*rng.choices(SEEDS, k=4)))
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice((rng.randrange(256), 0xC1, 0x80, 0xA1))
        found = outcome(format, bytes(data), 4)
        assert isinstance(found, bytes) or found == "malformed", f"seed={seed}"
        if isinstance(found, bytes) and name.startswith("json"):
            rows = [json.loads(row) for row in found.splitlines()]
            assert [next(iter(row)) for row in rows] == ["time"] * 4, f"seed={seed}"
        # Before and behind sound entries, where they are formatted many at a time, it is the same.
        sound = pack([1, {"log": "x"}])
        among = outcome(format, sound * 40 + bytes(data) + sound * 40, 84)
        if isinstance(found, bytes):
            around = outcome(format, sound * 40, 40)
            assert among == around + found + around, f"seed={seed}"
        else:
            assert among == found, f"seed={seed}"
