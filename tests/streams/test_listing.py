"""Streams by search, order and page."""

from __future__ import annotations

import random

import pytest

from hf_agent.streams.listing import ATTRIBUTES, list_streams
from hf_agent.streams.state import StreamState
from hf_agent.web.queries import SORTS


def states(count: int, seed: int = 1) -> list[StreamState]:
    rng = random.Random(seed)
    made = []
    for number in rng.sample(range(count), count):
        position = rng.randrange(50)
        state = StreamState(f"app/Web-{number:05}", position, rng.randrange(position + 1))
        state.since, state.error = rng.choice((0.0, 5.0, 7.5)), rng.choice(("", "away"))
        made.append(state)
    return made


def test_every_field_of_a_row_can_be_sorted_by_and_is_what_it_says() -> None:
    (state,) = states(1)
    row = state.describe()
    assert tuple(row) == tuple(ATTRIBUTES) == SORTS
    assert {name: getattr(state, ATTRIBUTES[name]) for name in row} == row


@pytest.mark.parametrize("sort", ["", *SORTS])
@pytest.mark.parametrize("descending", [False, True])
def test_pages_put_together_are_all_streams_in_order(sort: str, descending: bool) -> None:
    # The first pages are picked, the later ones cut from a sorted list: they must fit together.
    given = states(400)
    pages = [
        list_streams(given, sort=sort, descending=descending, offset=offset, limit=30)
        for offset in range(0, 420, 30)
    ]
    found = [state for page in pages for state in page.streams]
    assert {page.matched for page in pages} == {400}
    if sort:
        expected = sorted(
            given,
            key=lambda state: (state.describe()[sort], state.name),
            reverse=descending,
        )
        assert [state.name for state in found] == [state.name for state in expected]
    else:
        assert found == given


def test_a_search_is_for_a_part_of_the_name_in_any_case() -> None:
    given = states(300)
    found = list_streams(given, search="wEb-0001", sort="stream")
    assert [state.name for state in found.streams] == [f"app/Web-{i:05}" for i in range(10, 20)]
    assert found.matched == 10
    assert list_streams(given, search="nothing").matched == 0
    assert list_streams(given, prefix="app/Web-0001", search="9").matched == 1
    assert list_streams(given, prefix="web").matched == 0


def test_a_page_behind_the_last_one_is_empty() -> None:
    found = list_streams(states(10), sort="stream", offset=10, limit=5)
    assert (found.streams, found.matched) == ([], 10)
