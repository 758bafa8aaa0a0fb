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
            due = line(attempt, chunk.first + found)
            assert lines[place] == due, f"lost {due[:40]!r}: in its place {lines[place][:40]!r}"
            found += 1
            place += 1
        assert found <= chunk.count, f"more than was sent of chunk {attempt}: doubled"
        if chunk.acknowledged:
            lost = chunk.count - found
            assert not lost, f"chunk {attempt} was acknowledged whole, lost {lost} of its lines"
    assert place == len(lines), f"doubled, or never sent: {lines[place][:40]!r}"
