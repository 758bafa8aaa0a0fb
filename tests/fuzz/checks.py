"""What holds of every parser, whatever it is sent."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

from fuzz.mutation import cuts
from fuzz.targets import Target

__all__ = ["CALLS_PER_BYTE", "SPARE_CALLS", "check", "check_bounds"]

CALLS_PER_BYTE = 120
"""Of functions, in Python or C. A parser that goes over its input again and again makes more."""
SPARE_CALLS = 20_000
OBJECTS_PER_BYTE = 400
"""Bytes of memory for one byte of input: an empty map is one byte, and 64 as an object."""


def check(target: Target, data: bytes, rng: random.Random) -> list[Any]:
    """The events of `data`: the same in any pieces, and no exception but the protocol's own."""
    whole = target.events([data])
    pieces = cuts(rng, data)
    assert target.events(pieces) == whole, f"in pieces of {list(map(len, pieces))}"
    if len(data) <= 2000:
        single = [data[at : at + 1] for at in range(len(data))]
        assert target.events(single) == whole, "byte by byte"
    return whole


def check_bounds(target: Target, data: bytes) -> None:
    """Memory is bounded by the input that really came and the parser's limits, and so is work."""
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    calls = _calls(target.events, pieces)
    most = CALLS_PER_BYTE * len(data) + SPARE_CALLS
    assert calls <= most, f"{calls} calls for {len(data)} bytes"
    tracemalloc.start()
    try:
        target.events(pieces)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    most = target.held + OBJECTS_PER_BYTE * len(data)
    assert peak <= most, f"{peak} bytes of memory for {len(data)} bytes"


def _calls(run: Callable[[Sequence[bytes]], Any], pieces: Sequence[bytes]) -> int:
    count = 0

    def profile(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        run(pieces)
    finally:
        sys.setprofile(before)
    return count
