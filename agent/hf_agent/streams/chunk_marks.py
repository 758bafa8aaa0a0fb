"""A chunk's progress, and when it was made, in one number: what a mark of the WAL is.

The number must only rise: the time stands in its upper bits, and never goes back for a chunk.
"""

from __future__ import annotations

from typing import Final

__all__ = ["chunk_mark", "progress_of"]

_PROGRESS_BITS: Final = 32
_PROGRESS_MASK: Final = (1 << _PROGRESS_BITS) - 1


def chunk_mark(before: int, progress: int, now: float) -> int:
    """The mark of a chunk whose mark was `before` (0: none). `now`: Unix seconds."""
    seconds = max(int(now), before >> _PROGRESS_BITS)
    return seconds << _PROGRESS_BITS | progress


def progress_of(mark: int, now: float, max_age: float) -> int:
    """The progress in a mark; 0 if there is none, or if it is older than `max_age` seconds."""
    if now - (mark >> _PROGRESS_BITS) > max_age:
        return 0
    return mark & _PROGRESS_MASK
