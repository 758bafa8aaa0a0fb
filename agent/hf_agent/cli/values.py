"""Values of options: byte ranges, and moments."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import click

from hf_agent.config.units import parse_size

__all__ = ["ByteRange", "Moment", "RangeType", "SizeType"]


class ByteRange:
    """`A:B`: from byte A up to, not including, byte B. Negative ones count from the end."""

    def __init__(self, start: int, end: int | None) -> None:
        self.start = start
        self.end = end

    def within(self, size: int) -> tuple[int, int]:
        """The range in a content of `size` bytes, cut at its end."""
        start = self.start if self.start >= 0 else max(0, size + self.start)
        end = size if self.end is None else self.end if self.end >= 0 else size + self.end
        start = min(start, size)
        return start, max(start, min(end, size))


class RangeType(click.ParamType[ByteRange]):
    """A byte range; sizes may have units, as in `1MiB:2MiB`."""

    name = "A:B"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ByteRange:
        first, colon, last = str(value).partition(":")
        try:
            if not colon:
                raise ValueError
            start = _place(first) if first else 0
            end = _place(last) if last else None
        except ValueError:
            self.fail(f"{value!r} is not a range: write A:B, A: or :B, in bytes", param, ctx)
        if end is not None and (start < 0) == (end < 0) and end < start:
            self.fail(f"{value!r} ends before it begins", param, ctx)
        return ByteRange(start, end)


class SizeType(click.ParamType[int]):
    """A number of bytes, with a unit if it pleases: `4096`, `4KiB`."""

    name = "BYTES"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return parse_size(str(value))
        except ValueError:
            self.fail(f"{value!r} is no size: write a number of bytes, or 64MiB", param, ctx)


class Moment(click.ParamType[float]):
    """Unix seconds: from a number of them, or ISO 8601 text (UTC where it names no zone)."""

    name = "T"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).removeprefix("@")
        try:
            seconds = float(text)
        except ValueError:
            try:
                moment = datetime.fromisoformat(text)
            except ValueError:
                self.fail(
                    f"{value!r} is not a time: write 2026-01-31T12:00:00Z, or Unix seconds",
                    param,
                    ctx,
                )
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return moment.timestamp()
        if not math.isfinite(seconds):
            self.fail(f"{value!r} is not a time", param, ctx)
        return seconds


def _place(text: str) -> int:
    return -parse_size(text[1:]) if text.startswith("-") else parse_size(text)
