"""What each value of an event becomes in a line of JSON, and that it can be read back."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.json_lines import JsonLines
from hf_agent.ingest.forward.values import MAX_DEPTH
from support.forward_lines import Pairs, read_line, unpack
from support.forward_wire import event_time, pack, stream_of

NOON = 1_700_000_000
NOON_TEXT = "2023-11-14T22:13:20"


def line_of(entry: bytes, *, time_key: str = "time", tag_key: str = "", tag: str = "t") -> str:
    """The one line of one entry, without its newline."""
    text = JsonLines(time_key, tag_key).format(Slice(entry, 1), tag.encode(), b"").decode()
    assert text.endswith("\n") and text.count("\n") == 1
    return text[:-1]


def line(record: Any, time: Any = NOON, **keys: str) -> str:
    return line_of(pack([time, record]), **keys)


def fields(record: Any, time: Any = NOON, **keys: str) -> dict[str, Any]:
    """The line's fields behind the time."""
    found: dict[str, Any] = json.loads(line(record, time, **keys))
    found.pop(keys.get("time_key", "time"), None)
    return found


# Times.


@pytest.mark.parametrize(
    ("time", "text"),
    [
        (event_time(NOON, 123), f"{NOON_TEXT}.000000123Z"),
        (event_time(NOON, 999_999_999), f"{NOON_TEXT}.999999999Z"),
        (event_time(0), "1970-01-01T00:00:00.000000000Z"),
        (event_time(0xFFFFFFFF, 1), "2106-02-07T06:28:15.000000001Z"),
        (NOON, f"{NOON_TEXT}.000000000Z"),
        (NOON + 0.5, f"{NOON_TEXT}.500000000Z"),
        (-1, "1969-12-31T23:59:59.000000000Z"),
        (-0.25, "1969-12-31T23:59:59.750000000Z"),
        (msgpack.Timestamp(NOON, 7), f"{NOON_TEXT}.000000007Z"),
        (253_402_300_799, "9999-12-31T23:59:59.000000000Z"),
        (-62_135_596_800, "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_times_are_rfc_3339_with_nanoseconds(time: Any, text: str) -> None:
    assert json.loads(line({}, time)) == {"time": text}


def test_an_event_time_in_the_longer_ext_format_is_the_same() -> None:
    data = event_time(NOON, 5).data
    entry = b"\x92\xc7\x08\x00" + data + b"\x80"
    assert line_of(entry) == f'{{"time":"{NOON_TEXT}.000000005Z"}}'


def test_nanoseconds_of_more_than_a_second_are_carried() -> None:
    assert json.loads(line({}, event_time(NOON, 3_000_000_001)))["time"] == (
        "2023-11-14T22:13:23.000000001Z"
    )


@pytest.mark.parametrize("time", [253_402_300_800, NOON * 10**9, -(10**15), 1e300, None])
def test_a_time_that_rfc_3339_cannot_say_stands_as_it_came(time: Any) -> None:
    assert json.loads(line({}, time)) == {"time": time}


def test_a_time_that_is_no_number_at_all_stands_as_other_such_values() -> None:
    assert json.loads(line({}, math.nan)) == {"time": {"$float": "NaN"}}


# Records.


def test_a_record_stands_behind_the_time_with_its_keys_in_their_order() -> None:
    assert line({"b": 1, "a": "x", "c": [None, True, {"d": 2.5}]}) == (
        f'{{"time":"{NOON_TEXT}.000000000Z","b":1,"a":"x","c":[null,true,{{"d":2.5}}]}}'
    )


def test_an_empty_record_is_its_time() -> None:
    assert line({}) == f'{{"time":"{NOON_TEXT}.000000000Z"}}'


def test_without_a_time_key_only_the_record_is_written() -> None:
    assert line({"a": 1}, time_key="") == '{"a":1}'
    assert line({}, time_key="") == "{}"


def test_other_keys_for_the_time_and_one_for_the_tag() -> None:
    assert line({"a": 1}, time_key="@t", tag_key="tag", tag="app.web") == (
        f'{{"@t":"{NOON_TEXT}.000000000Z","tag":"app.web","a":1}}'
    )


def test_a_record_key_equal_to_the_time_key_stands_behind_a_dollar() -> None:
    assert line({"a": 1, "time": "mine"}) == (
        f'{{"time":"{NOON_TEXT}.000000000Z","a":1,"$time":"mine"}}'
    )
    assert fields({"tag": "mine"}, tag_key="tag") == {"tag": "t", "$tag": "mine"}
    assert fields({"in": {"time": "mine"}}) == {"in": {"time": "mine"}}, "only a hidden one"


def test_a_key_that_begins_with_a_dollar_gets_one_more() -> None:
    record = {"$a": 1, "$$b": 2, "$time": 3, "time": 4, "in": {"$bytes": "no", "x$": 5}}
    assert fields(record) == {
        "$$a": 1,
        "$$$b": 2,
        "$$time": 3,
        "$time": 4,
        "in": {"$$bytes": "no", "x$": 5},
    }


def test_a_value_that_begins_with_a_dollar_is_left_alone() -> None:
    assert fields({"price": "$5", "text": 'say "$x"'}) == {"price": "$5", "text": 'say "$x"'}


def test_embedded_newlines_and_controls_are_escaped() -> None:
    record = {"log": 'one\ntwo\r\n\x00\x1f\t"\\', "key\n": 1}
    assert fields(record) == record


def test_invalid_utf_8_is_base64() -> None:
    entry = b"\x92\x01\x82\xa1a\xa2\xff\xfe\xa1b\xa3\xed\xa0\x80"
    found = json.loads(line_of(entry))
    assert found["a"] == {"$bytes": "//4="}
    assert found["b"] == {"$bytes": "7aCA"}, "a surrogate is no text"


def test_binary_is_text_if_it_is_utf_8_and_else_base64() -> None:
    assert fields({"a": "grün".encode(), "b": b"\x00\xff", "c": [b"x"]}) == {
        "a": "grün",
        "b": {"$bytes": "AP8="},
        "c": ["x"],
    }


def test_nan_and_the_infinities_are_named() -> None:
    assert fields({"a": math.nan, "b": [math.inf], "c": {"d": -math.inf}, "e": 1e308}) == {
        "a": {"$float": "NaN"},
        "b": [{"$float": "Infinity"}],
        "c": {"d": {"$float": "-Infinity"}},
        "e": 1e308,
    }


def test_integers_are_written_with_all_their_digits() -> None:
    assert line({"a": 2**64 - 1, "b": -(2**63), "c": 2**53 + 1}).endswith(
        '"a":18446744073709551615,"b":-9223372036854775808,"c":9007199254740993}'
    )


def test_integers_beyond_64_bits_come_as_ext_and_stay_so() -> None:
    """MessagePack has none; some libraries put them into an ext type of their own."""
    big = (1 << 100).to_bytes(13, "big")
    assert fields({"a": msgpack.ExtType(5, big)}) == {"a": {"$ext": [5, "EAAAAAAAAAAAAAAAAA=="]}}


def test_ext_types_are_number_and_base64() -> None:
    assert fields({"a": event_time(1, 2), "b": msgpack.Timestamp(1)}) == {
        "a": {"$ext": [0, "AAAAAQAAAAI="]},
        "b": {"$ext": [-1, "AAAAAQ=="]},
    }


@pytest.mark.parametrize("code", [-128, -2, 127])
def test_ext_types_that_msgpack_keeps_for_itself_are_written_like_others(code: int) -> None:
    entry = b"\x92\x01\x81\xa1a\xd4" + bytes((code & 0xFF,)) + b"Z"
    text = f'{{"time":"1970-01-01T00:00:01.000000000Z","a":{{"$ext":[{code},"Wg=="]}}}}'
    assert line_of(entry) == text
    for records in (1, 100):
        lines = JsonLines("time", "").format(Slice(entry * records, records), b"t", b"")
        assert lines.decode() == f"{text}\n" * records


@pytest.mark.parametrize("data", [b"\xc7\x05\xff12345", b"\xd7\xff" + b"\xff" * 8])
def test_a_timestamp_of_no_form_that_msgpack_knows_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"cannot be decoded: .*(timestamp|nanoseconds)"):
        line_of(b"\x92\x01\x81\xa1a" + data)


def test_float32_is_the_same_number() -> None:
    assert json.loads(line_of(b"\x92\x01\x81\xa1a\xca\x3d\xcc\xcc\xcd"))["a"] == 0.10000000149011612


def test_a_map_with_other_keys_than_text_is_a_list_of_pairs() -> None:
    assert fields({"in": {1: "x", b"\xff": 2}}) == {
        "in": {"$map": [[1, "x"], [{"$bytes": "/w=="}, 2]]}
    }
    assert fields({1: "x", "a": 2}) == {"$map": [[1, "x"], ["a", 2]]}


def test_a_key_that_stands_twice_is_kept_twice() -> None:
    assert json.loads(line_of(b"\x92\x01\x82\xa1a\x01\xa1a\x02"))["$map"] == [["a", 1], ["a", 2]]
    nested = b"\x92\x01\x81\xa1n\x82\xa1a\x01\xa1a\x02"
    assert json.loads(line_of(nested))["n"] == {"$map": [["a", 1], ["a", 2]]}
    as_bin = b"\x92\x01\x82\xa1a\x01\xc4\x01a\x02"
    assert json.loads(line_of(as_bin))["$map"] == [["a", 1], ["a", 2]]


def deep(levels: int) -> Any:
    value: Any = "x"
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


def test_deep_nesting_is_written_as_it_is_up_to_a_limit() -> None:
    record = {"k": deep(MAX_DEPTH - 1)}
    assert fields(record) == record


def test_deeper_nesting_is_kept_as_msgpack_of_the_whole_event() -> None:
    for levels in (MAX_DEPTH, 500, 1000):
        entry = pack([NOON, {"k": deep(levels), "other": 1}])
        found = json.loads(line_of(entry))
        assert found.keys() == {"time", "$msgpack"}
        assert base64.b64decode(found["$msgpack"]) == entry


def test_nesting_that_no_parser_takes_is_refused() -> None:
    entry = b"\x92\x01\x81\xa1k" + b"\x91" * 2000 + b"\xc0"
    with pytest.raises(ProtocolError, match="nested deeper than 1024 levels"):
        line_of(entry)


def test_metadata_of_an_event_stands_behind_its_time() -> None:
    assert fields({"a": 1}, [event_time(NOON), {"src": b"\xff"}]) == {
        "$metadata": {"src": {"$bytes": "/w=="}},
        "a": 1,
    }
    assert fields({"a": 1}, [NOON, {}]) == {"a": 1}
    assert fields({"a": 1}, [NOON]) == {"a": 1}


def test_metadata_of_a_message_is_that_of_each_event_without_its_own() -> None:
    entries = stream_of([1, {}], [[2, {"m": 2}], {}])
    text = JsonLines("time", "").format(Slice(entries, 2), b"t", pack({"m": 1}))
    assert [json.loads(row)["$metadata"] for row in text.splitlines()] == [{"m": 1}, {"m": 2}]


@pytest.mark.parametrize(
    "entry",
    [
        5,
        [1],
        [1, {}, {}],
        {"a": 1},
        [1, []],
        [1, "x"],
        [1, None],
        ["x", {}],
        [True, {}],
        [msgpack.ExtType(0, b"short"), {}],
        [msgpack.ExtType(7, bytes(8)), {}],
        [[1, 2], {}],
        [[], {}],
        [[1, {}, 3], {}],
    ],
    ids=repr,
)
def test_what_is_no_entry_is_refused(entry: Any) -> None:
    for before in (0, 20, 100):
        entries = stream_of(*([[1, {"a": 1}]] * before), entry)
        with pytest.raises(ProtocolError) as caught:
            JsonLines("time", "").format(Slice(entries, before + 1), b"t", b"")
        assert caught.value.code == "malformed"


@pytest.mark.parametrize("said", [2, 4, 100])
def test_another_number_of_entries_than_was_said_is_refused(said: int) -> None:
    entries = stream_of([1, {}], [2, {}], [3, {}])
    with pytest.raises(ProtocolError, match=f"size={said} entries=3"):
        JsonLines("time", "").format(Slice(entries, said), b"t", b"")


def test_odd_entries_among_plain_ones_keep_their_place() -> None:
    records: list[Any] = [{"n": number, "log": "x" * 20} for number in range(500)]
    records[3] = {"n": 3, "log": b"\xff"}
    records[77] = {"n": 77, "time": 1}
    records[400] = {"$n": 400}
    entries = stream_of(*([event_time(NOON, n), record] for n, record in enumerate(records)))
    formatter = JsonLines("time", "")
    for _ in range(3):  # the second time there is a class for these keys
        rows = formatter.format(Slice(entries, 500), b"t", b"").splitlines()
        assert [read_line(row).record for row in rows] == [unpack(pack(r)) for r in records]
        assert [json.loads(row)["time"][-4:-1] for row in rows] == [f"{n:03d}" for n in range(500)]


# All of it together.

KEYS = st.text(max_size=4) | st.sampled_from(["time", "$time", "$$", "$map", "tag", "a", "a\n"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=9))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(KEYS | st.integers(0, 9) | st.binary(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
RECORDS = st.dictionaries(KEYS | st.binary(max_size=3), VALUES, max_size=5)


@settings(max_examples=150, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=40), st.sampled_from(["", "tag"]))
def test_whatever_a_record_holds_can_be_read_back(
    records: list[dict[Any, Any]], tag_key: str
) -> None:
    entries = stream_of(*([event_time(NOON, n), record] for n, record in enumerate(records)))
    text = JsonLines("time", tag_key).format(Slice(entries, len(records)), b"a.b", b"")
    rows = text.splitlines()
    assert len(rows) == text.count(b"\n") == len(records)
    for number, (row, record) in enumerate(zip(rows, records, strict=True)):
        found = read_line(row, tag_key=tag_key)
        assert found.record == unpack(pack(record))
        assert isinstance(found.record, Pairs)
        assert found.time == f"{NOON_TEXT}.{number:09d}Z"
        assert found.tag == (b"a.b" if tag_key else None)


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=6), st.integers(60, 90))
def test_many_at_a_time_are_the_same_as_one_by_one(
    records: list[dict[Any, Any]], number: int
) -> None:
    entries = [pack([NOON + n % 3, records[n % len(records)]]) for n in range(number)]
    formatter = JsonLines("time", "tag")
    alone = [formatter.format(Slice(entry, 1), b"t", b"") for entry in entries]
    for _ in range(3):
        together = formatter.format(Slice(b"".join(entries), number), b"t", b"")
        assert together == b"".join(alone)
