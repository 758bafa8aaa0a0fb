"""Many times at a time are what each of them is by itself."""

from __future__ import annotations

import random

import pytest
from msgspec import Raw

from hf_agent.ingest.forward.event_time import TimeTexts, time_text
from support.forward_wire import event_time, pack

BILLION = 10**9


@pytest.mark.parametrize("order", ["rising", "any", "falling", "apart"])
def test_times_of_a_chunk_are_those_of_its_entries_in_whatever_order(order: str) -> None:
    rng = random.Random(order)
    texts = TimeTexts()
    for count in (1, 2, 3, 10, 500):
        spread = 10**6 if order == "apart" else 5
        times = [(rng.randrange(spread), rng.choice((0, 1, BILLION - 1))) for _ in range(count)]
        if order == "rising":
            times.sort()
        elif order == "falling":
            times.sort(reverse=True)
        packed = [Raw(pack(event_time(*time))) for time in times]
        assert texts.of(packed) == [time_text(*time) for time in times]


def test_no_times_have_no_texts() -> None:
    assert TimeTexts().of([]) == []


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("nanos", [BILLION, 2 * BILLION, 2**32 - 1])
def test_nanoseconds_to_be_carried_are_left_to_others(place: int, nanos: int) -> None:
    times = [(5, 0), (5, 1), (6, 2)]
    times[place] = (5, nanos)
    assert TimeTexts().of([Raw(pack(event_time(*time))) for time in times]) is None
