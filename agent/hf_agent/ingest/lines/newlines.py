"""How many newlines there are: all that is asked about lines that are stored as they come."""

from __future__ import annotations

from hf_agent.native import native

__all__ = ["count_newlines"]


def count_newlines(data: bytearray, start: int, end: int) -> int:
    """Newlines in `data[start:end]`."""
    if native is not None:
        return native.count_newlines(data, start, end)
    return data.count(b"\n", start, end)
