"""Which stream names there may be: they become parts of keys on the store."""

from __future__ import annotations

import re

__all__ = ["MAX_STREAM_NAME_BYTES", "STREAM_NAME_RULE", "is_stream_name"]

MAX_STREAM_NAME_BYTES = 200

STREAM_NAME_RULE = "allowed='1-200 of A-Z a-z 0-9 . _ - in segments parted by /, none . or ..'"
"""What to say to those whose name is none."""

_NAME = re.compile(r"(?:(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+(?:/(?!\Z)|\Z))+")
"""Segments of the allowed characters, none of them `.` or `..`, parted by single slashes."""


def is_stream_name(name: str) -> bool:
    """Whether `name` may name a stream.

    `[A-Za-z0-9._-]` and `/`, 1 to 200 bytes, no empty, `.` or `..` segment, no slash at either end.
    """
    return len(name) <= MAX_STREAM_NAME_BYTES and _NAME.fullmatch(name) is not None
