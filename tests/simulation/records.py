"""Appends that say who made them, so that whoever finds one knows what it must look like."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Name", "make", "names_in", "parse"]

_HEAD = re.compile(rb"\[([a-z]+\d*):(\d+):(\d+):")
SMALLEST = 24


class Name(NamedTuple):
    """Who made an append, and which one it is."""

    client: str
    number: int


def make(name: Name, size: int) -> bytes:
    """An append of `size` bytes, at least 24."""
    head = b"[%s:%d:%d:" % (name.client.encode(), name.number, size)
    # Everywhere different, so that bytes of another place, or of another append, do not fit.
    unit = b"%06d." % (name.number * 7919 % 1_000_000)
    body = unit * (size // len(unit) + 1)
    return head + body[: size - len(head) - 1] + b"]"


def parse(data: bytes) -> list[Name]:
    """The appends in `data`. Raises `ValueError` unless it is a sequence of whole ones."""
    names = []
    at = 0
    while at < len(data):
        found = _HEAD.match(data, at)
        if found is None:
            raise ValueError(f"no append begins at {at}: {data[at : at + 40]!r}")
        name, size = Name(found[1].decode(), int(found[2])), int(found[3])
        if data[at : at + size] != make(name, size):
            raise ValueError(f"append {name} at {at} is not whole: {data[at : at + size]!r}")
        names.append(name)
        at += size
    return names


def names_in(data: bytes) -> list[Name]:
    """The appends that begin anywhere in `data`, whole or not."""
    return [Name(found[1].decode(), int(found[2])) for found in _HEAD.finditer(data)]
