"""Lines of container runtimes, without any I/O."""

from __future__ import annotations

import pytest

from hf_agent.config import Lines
from hf_agent.ingest.lines.record import Moment
from support.assembled import NOW, NOW_TEXT, Assembled, assembled, message_of, objects

CRI = Lines(cri=True)
CRI_JSON = Lines(cri=True, format="json")
T1, T2, T3 = (b"2026-01-31T12:00:0%d.123456789Z" % second for second in (1, 2, 3))


def test_whole_lines_pass_byte_for_byte() -> None:
    text = T1 + b" stdout F one\n" + T2 + b" stderr F \n" + T3 + b" stdout F last"
    made = assembled([text], CRI)
    assert made.stored == text
    assert made.records == 3
    assert not made.ended


def test_an_empty_line_in_front_is_a_line_of_its_own() -> None:
    text = b"\n" + T1 + b" stdout P one \n" + T2 + b" stdout F two\n"
    made = assembled([text], CRI)
    assert made.stored == b"\n" + T1 + b" stdout F one two\n"
    assert (made.records, made.malformed) == (2, 1)


def test_what_waits_is_counted_in_both_stages() -> None:
    made = Assembled(Lines(cri=True, start_pattern="start"))
    made.receive(T1 + b" stdout F start\n", NOW)
    first = made.assembly.held
    made.receive(T2 + b" stderr P part\n", NOW)
    assert 0 < first < made.assembly.held
    made.end()
    assert made.assembly.held == 0


def test_parts_become_one_line_with_the_time_of_the_first() -> None:
    text = T1 + b" stdout P one \n" + T2 + b" stdout P two \n" + T3 + b" stdout F three\n"
    made = assembled([text], CRI)
    assert made.stored == T1 + b" stdout F one two three\n"
    assert made.records == 1
    assert made.ended == {("cri", "complete"): 1}


def test_parts_of_both_streams_may_stand_between_each_other() -> None:
    text = b"".join(
        (
            T1 + b" stdout P out1 \n",
            T1 + b" stderr P err1 \n",
            T2 + b" stdout F out2\n",
            T3 + b" stdout F whole\n",
            T3 + b" stderr F err2\n",
        )
    )
    assert assembled([text], CRI).stored == b"".join(
        (
            T1 + b" stdout F out1 out2\n",
            T3 + b" stdout F whole\n",
            T1 + b" stderr F err1 err2\n",
        )
    )


def test_as_json_a_line_has_the_runtimes_time_and_its_stream() -> None:
    text = T1 + b" stderr P a\xc3\n" + T2 + b" stderr F \xa9b\n" + T3 + b" stdout F \xff\n"
    made = assembled([text], CRI_JSON)
    assert objects(made.stored) == [
        {"time": T1.decode(), "pid": 42, "uid": 1000, "stream": "stderr", "message": "aéb"},
        {
            "time": T3.decode(),
            "pid": 42,
            "uid": 1000,
            "stream": "stdout",
            "message": {"$bytes": "/w=="},
        },
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"no line of a runtime",
        T1 + b" stdout F",
        T1 + b" stdin F x",
        T1 + b" stdout X x",
        T1 + b" stdout PF x",
        T1 + b" stdout F:tag x",
        T1 + b"  stdout F x",
        b" stdout F x",
        b"\xff stdout F x",
        b"1" * 65 + b" stdout F x",
    ],
)
def test_what_is_no_line_of_a_runtime_is_stored_as_it_is_and_counted(line: bytes) -> None:
    text = T1 + b" stdout P a\n" + line + b"\n" + T2 + b" stdout F b\n"
    made = assembled([text], CRI)
    assert made.stored == line + b"\n" + T1 + b" stdout F ab\n"
    assert made.malformed == 1
    made = assembled([text], CRI_JSON)
    first, second = objects(made.stored)
    assert message_of(first) == line
    assert first["time"] == NOW_TEXT and "stream" not in first
    assert second["message"] == "ab"


def test_a_line_whose_end_does_not_come_is_stored_as_partial_when_it_has_waited() -> None:
    for config in (CRI, CRI_JSON):
        made = Assembled(config)
        made.receive(T1 + b" stdout P one \n")
        made.expire(Moment(NOW.monotonic + 1.0, NOW.time + 1.0))
        made.receive(T2 + b" stdout F two\n")
        made.end()
        assert made.ended == {("cri", "time"): 1}
        if config.format == "raw":
            assert made.stored == T1 + b" stdout P one \n" + T2 + b" stdout F two\n"
        else:
            first, second = objects(made.stored)
            assert first["message"] == "one " and first["$partial"] is True
            assert second["message"] == "two" and "$partial" not in second


PART = T1 + b" stdout P x\n"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (Lines(cri=True, max_group_bytes=3 * len(PART)), "bytes"),
        (Lines(cri=True, max_group_lines=3), "lines"),
    ],
)
def test_so_is_one_that_becomes_too_large_or_has_too_many_parts(config: Lines, why: str) -> None:
    made = assembled([PART * 7], config)
    assert made.stored == (T1 + b" stdout P xxx\n") * 2 + PART
    assert made.ended == {("cri", why): 2, ("cri", "end"): 1}


def test_lines_without_end_take_bounded_memory() -> None:
    made = Assembled(Lines(cri=True, max_group_bytes=10_000, max_group_lines=100_000))
    for number in range(20_000):
        name = b"stdout" if number % 3 else b"stderr"
        made.receive(T1 + b" " + name + b" P " + b"x" * (number % 100) + b"\n")
    assert made.most_held <= 20_000
    made.end()


def test_joined_lines_can_be_joined_again_by_a_start_pattern_each_stream_for_itself() -> None:
    text = b"".join(
        (
            T1 + b" stdout P 2026 \n",
            T1 + b" stderr F 2026 err\n",
            T1 + b" stdout F one\n",
            b"stray\n",
            T2 + b" stderr F  at e\n",
            T2 + b" stdout F  at a\n",
            T3 + b" stdout F 2026 two\n",
        )
    )
    made = assembled([text], Lines(cri=True, start_pattern="2026", format="json"))
    assert [(line.get("stream"), line["message"]) for line in objects(made.stored)] == [
        (None, "stray"),
        ("stdout", "2026 one\n at a"),
        ("stderr", "2026 err\n at e"),
        ("stdout", "2026 two"),
    ]
    raw = assembled([text], Lines(cri=True, start_pattern="2026"))
    assert raw.stored == b"".join(
        (
            b"stray\n",
            T1 + b" stdout F 2026 one\n" + T2 + b" stdout F  at a\n",
            T1 + b" stderr F 2026 err\n" + T2 + b" stderr F  at e\n",
            T3 + b" stdout F 2026 two\n",
        )
    )
    assert raw.ended == {
        ("cri", "complete"): 1,
        ("multiline", "complete"): 1,
        ("multiline", "end"): 2,
    }
