"""The loops that are in C (`agent/native`), where they were compiled; see decision 007.

Whatever is here has its equal in Python, which gives the same bytes: the caller's, for where there
is no extension and for what is out of the ordinary.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final, Protocol, TypeAlias, cast

__all__ = ["Native", "available", "native"]

Buffer: TypeAlias = bytes | bytearray | memoryview


class Native(Protocol):
    """What the extension has."""

    def count_newlines(self, data: Buffer, start: int, end: int, /) -> int:
        """How many newlines `data[start:end]` has. Raises `ValueError` if it has not so much."""
        ...

    def json_lines(
        self,
        messages: list[bytes | memoryview],
        counts: list[int],
        head: bytes,
        has_time: bool,
        tail: bytes,
        own_keys: tuple[bytes, ...],
        /,
    ) -> bytes | None:
        """Messages of `[time, record]` in msgpack as lines of JSON.

        `counts`: how many entries each message has. A line is `head`, the time if it `has_time`,
        `tail`, the record's keys and values, a brace and a newline. `own_keys` are those that head
        and tail have, at most two.

        None when anything is out of the ordinary, or the counts are wrong: then Python has to look.
        """
        ...


def _load() -> Native | None:
    try:
        return cast(Native, import_module("hf_agent._native"))
    except ImportError:
        return None


native: Final = _load()
"""The extension, or None where it was not compiled, or not for this Python."""


def available() -> bool:
    """Whether the extension is there."""
    return native is not None
