"""Stream names follow the rule of the interface and no other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.stream_name import is_stream_name


@pytest.mark.parametrize(
    "name",
    ["a", "app", "a/b/c", "A-Z_0.9", "...", ".hidden", "a/..b", "..a/b", "x" * 200, "-", "a."],
)
def test_names_that_are_allowed(name: str) -> None:
    assert is_stream_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/a", "a/", "a//b", ".", "..", "a/.", "a/..", "./a", "../a", "a/../b"),
        *("x" * 201, "a b", "a\n", "a\x00", "ä", "a\\b", "a:b", "１"),
    ],
)
def test_names_that_are_refused(name: str) -> None:
    assert not is_stream_name(name)


@settings(deadline=None)
@given(st.text(alphabet="a./-é\n", max_size=12))
def test_the_rule_spelled_out_segment_by_segment_agrees(name: str) -> None:
    segments = name.split("/")
    expected = all(
        segment not in ("", ".", "..") and set(segment) <= set("a.-") for segment in segments
    )
    assert is_stream_name(name) is expected
