"""Bodies as views, cut into parts: the bytes stay, and stay where they are."""

from __future__ import annotations

import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_agent.store.buffers import body_views, split_views, total_bytes


@given(st.lists(st.binary(max_size=20), max_size=12), st.integers(1, 25))
def test_parts_hold_the_same_bytes_in_runs_of_one_length(buffers: list[bytes], size: int) -> None:
    views = body_views(buffers)
    whole = b"".join(buffers)
    runs = [b"".join(run) for run in split_views(views, size)]
    assert total_bytes(views) == len(whole)
    assert runs == [whole[at : at + size] for at in range(0, len(whole), size)]


def test_nothing_is_copied() -> None:
    data = bytearray(b"0123456789")
    runs = list(split_views(body_views([data, memoryview(data)[2:]]), 3))
    assert all(view.obj is data for run in runs for view in run)


def test_views_of_larger_items_count_in_bytes() -> None:
    numbers = memoryview(array.array("I", [1, 2, 3]))
    assert total_bytes(body_views(numbers)) == 12


def test_a_view_with_gaps_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError):
        body_views(memoryview(b"0123456789")[::2])
