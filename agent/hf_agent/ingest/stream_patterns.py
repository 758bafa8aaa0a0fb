"""Patterns of stream names, as `app/*`: a glob that is small enough to be known by heart.

- `*` stands for any characters of one segment, also for none.
- `**`, as the last segment, stands for one segment or more. Alone it is every stream.
- Everything else stands for itself, and the whole name must match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from hf_agent.ingest.stream_name import is_stream_name

__all__ = ["check_pattern", "compile_patterns"]


def compile_patterns(patterns: Sequence[str]) -> Callable[[str], bool]:
    """Tells whether a stream's name matches one of `patterns`; time is linear in its length.

    `patterns` are what `check_pattern` has no fault to find with.
    """
    whole = re.compile("|".join(f"(?:{_expression(pattern)})" for pattern in patterns) or r"(?!)")
    return lambda name: whole.fullmatch(name) is not None


def check_pattern(pattern: str) -> str:
    """What is wrong with a pattern; empty if nothing is."""
    # `*` may stand for a character, so a pattern is what could be a name.
    if not is_stream_name(pattern.replace("*", "x")):
        return (
            "not a pattern of streams: use letters, digits and . _ - / as in their names, with * "
            "for any part of a segment, and ** as the last segment for all below"
        )
    *segments, last = pattern.split("/")
    if any("**" in segment for segment in segments) or ("**" in last and last != "**"):
        return "not a pattern of streams: ** stands for all below, only as the whole last segment"
    return ""


def _expression(pattern: str) -> str:
    *segments, last = pattern.split("/")
    tail = ".+" if last == "**" else _segment(last)
    return "/".join([*map(_segment, segments), tail])


def _segment(segment: str) -> str:
    """One segment: atomic groups keep the time linear, however many `*` there are.

    The first place where a piece fits leaves the most for those behind it, so there is nothing to
    gain from trying another.
    """
    first, *pieces = map(re.escape, segment.split("*"))
    if not pieces:
        return first
    *middle, end = pieces
    found = "".join(f"(?>[^/]*?{piece})" for piece in middle if piece)
    return f"{first}{found}(?>[^/]*{end}(?=/|\\Z))" if end else f"{first}{found}[^/]*+"
