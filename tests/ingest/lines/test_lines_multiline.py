"""Lines joined by a start pattern, without any I/O."""

from __future__ import annotations

import re
import time

import pytest

from hf_agent.config import Lines
from hf_agent.ingest.lines.record import Moment
from hf_agent.ingest.lines.start_pattern import MAX_PATTERN_BYTES, StartPattern
from support.assembled import NOW, Assembled, assembled, message_of, objects

TEXT = b"stray\n2026 one\n at a\n at b\n2026 two\n2026 three\n at c"
GROUPS = [b"stray\n", b"2026 one\n at a\n at b\n", b"2026 two\n", b"2026 three\n at c"]


def joining(start: str = r"\d{4} ", **options: object) -> Lines:
    return Lines(start_pattern=start, **options)  # type: ignore[arg-type]


def messages(made: Assembled) -> list[bytes]:
    return [message_of(line) for line in objects(made.stored)]


def test_raw_groups_are_the_lines_as_they_came_and_never_cut_between_appends() -> None:
    made = assembled([TEXT], joining())
    assert made.stored == TEXT
    assert made.records == 4
    assert [append.data for append in made.appends] == [b"".join(GROUPS[:3]), GROUPS[3]]
    assert made.ended == {("multiline", "complete"): 3, ("multiline", "end"): 1}


def test_a_group_is_one_record_of_json_with_its_newlines_inside() -> None:
    made = assembled([TEXT], joining(format="json"))
    assert messages(made) == [group.removesuffix(b"\n") for group in GROUPS]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
def test_groups_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    chunks = [TEXT[place : place + size] for place in range(0, len(TEXT), size)]
    made = assembled(chunks, joining(format="json"))
    assert messages(made) == [group.removesuffix(b"\n") for group in GROUPS]


def test_a_group_ends_at_its_most_lines() -> None:
    made = assembled([b"2026 x\n" + b" y\n" * 7], joining(format="json", max_group_lines=3))
    assert messages(made) == [b"2026 x\n y\n y", b" y\n y\n y", b" y\n y"]
    assert made.ended == {("multiline", "lines"): 2, ("multiline", "end"): 1}


def test_a_group_ends_before_the_line_that_would_make_it_too_large() -> None:
    made = assembled(
        [b"2026 x\n" + b" y\n" * 4 + b" " + b"z" * 50 + b"\n y\n"],
        joining(format="json", max_group_bytes=13),
    )
    assert messages(made) == [b"2026 x\n y\n y", b" y\n y", b" " + b"z" * 50, b" y"]
    assert made.ended[("multiline", "bytes")] == 3


def test_groups_of_json_are_bounded_so_that_every_text_fits_a_record() -> None:
    made = assembled(
        [b"2026\n" + b"\x01\n" * 20_000],
        joining(format="json", max_group_lines=100_000),
        max_record_bytes=10_000,
    )
    assert b"".join(message + b"\n" for message in messages(made)) == b"2026\n" + b"\x01\n" * 20_000


def test_a_group_that_waits_too_long_is_ended_and_has_the_time_of_its_first_line() -> None:
    made = Assembled(joining(format="json", max_group_wait=2.0))
    made.receive(b"2026 x\n", NOW)
    assert made.assembly.deadline == NOW.monotonic + 2
    made.receive(b" y\n", Moment(NOW.monotonic + 1.5, NOW.time + 1.5))
    made.expire(Moment(NOW.monotonic + 1.9, NOW.time + 1.9))
    assert made.appends == []
    made.expire(Moment(NOW.monotonic + 2.0, NOW.time + 2.0))
    assert messages(made) == [b"2026 x\n y"]
    assert objects(made.stored)[0]["time"] == "2026-01-31T12:00:00.250000000Z"
    assert made.ended == {("multiline", "time"): 1}
    assert made.assembly.held == 0


def test_a_pattern_is_about_one_line_whatever_stands_behind_it() -> None:
    text = b"a\nb\na b\n\nb"
    for pattern, starts in (
        ("a$", [0]),
        (r"a\s*b", [4]),
        (r"(?s)a.*b", [4]),
        (r"^$", [8]),
        ("", [0, 2, 4, 8, 9]),
        (r"[^x]", [0, 2, 4, 9]),
        ("x|b", [2, 9]),
    ):
        assert StartPattern(pattern).starts(text) == starts, pattern


def test_a_pattern_is_text_and_bytes_that_are_none_match_nothing() -> None:
    assert StartPattern("[é]").starts("é\ne\n".encode() + b"\xc3\n") == [0]
    assert StartPattern("[^ ]").starts(b"\xff\nx\n") == [2]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [
        ("(", "missing )"),
        ("a)|(b", "unexpected )"),
        (r"(a)\1", "invalid escape sequence"),
        ("(?=a)", "invalid perl operator"),
        ("a{2000}", "invalid repetition size"),
        (r"\Aa", "use ^ and $"),
        (r"x\\\z", "use ^ and $"),
        (r"\Q(", "use ^ and $"),
        ("(?-m:a$)", "use ^ and $"),
        ("(?s-im)a", "use ^ and $"),
        ("a\nb", "newline"),
        ("x" * (MAX_PATTERN_BYTES + 1), "longer than 1024 bytes"),
        ("(?:a{1,1000}){1,1000}", "RE2 syntax"),
    ],
)
def test_a_pattern_that_is_none_or_not_about_a_line_is_refused(pattern: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        StartPattern(pattern)


def test_a_backslash_before_a_letter_that_is_quoted_is_fine() -> None:
    assert StartPattern(r"\\A").starts(b"\\A\n") == [0]


def test_no_pattern_and_no_line_take_long_together() -> None:
    """For a backtracking engine each of these would take longer than the universe is old."""
    line = b"a" * 50_000 + b"!\n"
    began = time.process_time()
    for pattern in ("(a+)+$", "(a|aa)+$", "(.*a){20}$", "(a*)*b", "(?:a?){100}a{100}$"):
        assert StartPattern(pattern).starts(line * 2) == []
    print(f"took {time.process_time() - began:.3f} s of CPU")
