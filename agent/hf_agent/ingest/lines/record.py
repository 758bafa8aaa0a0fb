"""What passes from stage to stage: records, the moment they came, and what is appended of them."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Append", "Moment", "Record"]


class Moment(NamedTuple):
    """When something was received."""

    monotonic: float
    """For how long it waits."""
    time: float
    """Seconds since the Unix epoch."""


class Record(NamedTuple):
    """One line, or lines that were joined."""

    data: bytes
    """What is stored of it raw: lines, with their newlines (the last of all may have none)."""
    received: float
    """Unix seconds of its first line."""
    message: bytes | None = None
    """What it says; None: its data, without the last newline."""
    time: str = ""
    """What a container runtime gave as its time; empty: no such line."""
    stream: str = ""
    """`stdout` or `stderr`, as a container runtime said; empty: no such line."""
    partial: bool = False
    """Its line goes on in the next record of that stream."""


class Append(NamedTuple):
    """Whole records, to be stored together."""

    data: bytes
    records: int
