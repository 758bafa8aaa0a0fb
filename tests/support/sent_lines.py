"""Lines that went through connections of protocol `lines`, and what must be stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Chunk", "check_lines", "line"]


@dataclass
class Chunk:
    """Lines that went through one connection, and whether they were acknowledged as a whole."""

    first: int
    count: int
    acknowledged: bool


def line(attempt: int, number: int) -> bytes:
    """Line `number` of the job, sent in chunk `attempt`."""
    return b"%06d %07d some text of a usual length\n" % (attempt, number)


def check_lines(stored: bytes, chunks: Sequence[Chunk]) -> None:
    """Acknowledged chunks are there whole, once, in order; others at most once, and a prefix."""
    lines = stored.splitlines(keepends=True)
    place = 0
    for attempt, chunk in enumerate(chunks):
        prefix = b"%06d " % attempt
        found = 0
        while place < len(lines) and lines[place].startswith(prefix):
            assert lines[place] == line(attempt, chunk.first + found)
            found += 1
            place += 1
        assert found <= chunk.count
        if chunk.acknowledged:
            assert found == chunk.count, f"chunk {attempt} was acknowledged whole"
    assert place == len(lines)
