"""Results on standard output: tables for people, JSON for scripts."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from hf_agent.cli.interrupts import interruptible

__all__ = [
    "JsonArray",
    "iso_time",
    "output_is_a_file",
    "print_fields",
    "print_json",
    "print_table",
    "write_bytes",
    "write_text",
]


def write_bytes(data: bytes | memoryview) -> None:
    """Write content to standard output, as it is, within an event loop.

    It goes there at once: what stood in a buffer would be written when the process ends, and an
    interrupted one would wait for a reader that does not read.
    """
    sys.stdout.flush()
    view = memoryview(data)
    with interruptible():
        while view:
            view = view[os.write(sys.stdout.fileno(), view) :]


def output_is_a_file() -> bool:
    """Whether standard output goes to a file: nobody sees there how far it has come."""
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False  # closed, or none of the operating system's


def write_text(text: str) -> None:
    """Write one line."""
    sys.stdout.write(text + "\n")


def print_json(value: Any) -> None:
    """One JSON document on one line."""
    write_text(msgspec.json.encode(value).decode())


class JsonArray:
    """A JSON array that is written as its elements come, one a line."""

    def __init__(self) -> None:
        self._separator = "["

    def add(self, value: Any) -> None:
        """Write one element."""
        sys.stdout.write(self._separator + "\n" + msgspec.json.encode(value).decode())
        self._separator = ","

    def end(self) -> None:
        """Write the end of the array."""
        sys.stdout.write("\n]\n" if self._separator == "," else "[]\n")


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns: numbers to the right, all else to the left; no head without rows."""
    table = [[str(cell) for cell in row] for row in rows]
    if not table:
        return
    numeric = [all(row[i].isdigit() or row[i] == "-" for row in table) for i in range(len(head))]
    widths = [max(len(row[i]) for row in (head, *table)) for i in range(len(head))]
    for row in (head, *table):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        write_text("  ".join(cells).rstrip())


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Names and values, one pair a line."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        write_text(f"{name.ljust(width)}  {value}".rstrip())


def iso_time(seconds: float) -> str:
    """A time as RFC 3339 text in UTC, to the millisecond. `seconds` since the Unix epoch."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return f"@{seconds:.0f}"  # a damaged, or a very far, time: as it stands
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
