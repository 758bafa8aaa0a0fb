"""Patterns of stream names: which names they match, and how long that takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_agent.ingest.stream_name import is_stream_name
from hf_agent.ingest.stream_patterns import check_pattern, compile_patterns


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("app", ["app"], ["App", "apps", "app/a", "a"]),
        ("app/*", ["app/a", "app/.x"], ["app", "app/a/b", "apps/a"]),
        ("app/**", ["app/a", "app/a/b/c"], ["app", "apps/a"]),
        ("*", ["a", "app"], ["a/b"]),
        ("**", ["a", "a/b", "a/b/c"], []),
        ("a*", ["a", "ab"], ["ba", "a/b"]),
        ("*a", ["a", "ba"], ["ab", "b/a"]),
        ("*.log", [".log", "a.log", "a.log.log"], ["alog", "a.log.x"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ac", "acb", "a/b/c"]),
        ("*/x/*", ["a/x/b"], ["x/b", "a/x", "a/b/x/c"]),
        ("a.c", ["a.c"], ["abc"]),
    ],
)
def test_a_pattern_matches_whole_names(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    matches = compile_patterns([pattern])
    assert [name for name in (*matching, *others) if matches(name)] == matching


def test_one_of_several_patterns_is_enough_and_none_matches_nothing() -> None:
    matches = compile_patterns(["a", "b/*"])
    assert matches("a") and matches("b/x") and not matches("b")
    assert not compile_patterns([])("a")


def model(pattern: str, name: str) -> bool:
    """The rules again, by trying everything."""
    if not pattern:
        return not name
    if pattern.endswith("/**") or pattern == "**":
        places = [0, *(index + 1 for index, letter in enumerate(name) if letter == "/")]
        return any(model(pattern[:-2], name[:place]) and name[place:] for place in places)
    if pattern[0] == "*":
        return model(pattern[1:], name) or (
            bool(name) and name[0] != "/" and model(pattern, name[1:])
        )
    return bool(name) and name[0] == pattern[0] and model(pattern[1:], name[1:])


@given(st.text("ab*/.", max_size=8), st.text("ab/.", max_size=8))
def test_patterns_match_what_trying_everything_finds(pattern: str, name: str) -> None:
    if not check_pattern(pattern) and is_stream_name(name):
        assert compile_patterns([pattern])(name) == model(pattern, name), (pattern, name)


def test_many_stars_take_no_more_than_linear_time() -> None:
    """Backtracking would try some 10^25 ways: it would not end within the test's time."""
    matches = compile_patterns(["*a" * 20 + "*b/" + "*a" * 20 + "*b/*"])
    assert not matches("a" * 100 + "/" + "a" * 99)
    assert not matches("a" * 60 + "b/" + "a" * 60 + "c/" + "a" * 70)
