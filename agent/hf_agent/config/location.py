"""Where a key stands in a TOML text, for error messages.

This is not a parser: `tomllib` has accepted the text before, and keeps no line numbers. Keys inside
of inline tables and multi-line arrays are attributed to the line on which their value begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["KeyPath", "Line", "Locations", "dotted"]

KeyPath: TypeAlias = tuple[str | int, ...]

_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*(\[\[?)\s*({_DOTTED})\s*\]\]?")
_PAIR = re.compile(rf"\s*({_DOTTED})\s*=\s*(.*)")
_TOKEN = re.compile(
    r"""\"\"\"|'''|"(?:[^"\\]|\\.)*"|'[^']*'|[\[\]{}]|#.*""",
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file that gives a key its value, or begins a table."""

    number: int
    """Counted from 1."""
    value: str | None
    """The value as it is written (its first line); None for the header of a table."""


def dotted(path: KeyPath) -> str:
    """A key as people write it: `listen[0].path`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Locations:
    """The line of every key and every table of a TOML text."""

    def __init__(self, text: str) -> None:
        self._lines: dict[KeyPath, Line] = {}
        self._counts: dict[KeyPath, int] = {}
        self._scan(text)

    def find(self, path: KeyPath) -> Line | None:
        """The line of a key, or of the nearest table around it that has one."""
        while path:
            if line := self._lines.get(path):
                return line
            path = path[:-1]
        return None

    def value(self, path: KeyPath) -> str | None:
        """The value of a key as it is written; None where the key has no line of its own."""
        line = self._lines.get(path)
        return line.value if line else None

    def _scan(self, text: str) -> None:
        table: KeyPath = ()
        value = _Value()
        for number, line in enumerate(text.splitlines(), 1):
            if value.open:
                value.feed(line)
            elif header := _HEADER.match(line):
                table = self._table(_split(header[2]), array=header[1] == "[[")
                self._lines.setdefault(table, Line(number, None))
            elif pair := _PAIR.match(line):
                value.feed(pair[2])
                shown = Line(number, _without_comment(pair[2]))
                path = table
                for part in _split(pair[1]):
                    path = (*path, part)
                    self._lines.setdefault(path, shown)

    def _table(self, keys: Sequence[str], *, array: bool) -> KeyPath:
        path: KeyPath = ()
        for index, key in enumerate(keys):
            path = (*path, key)
            if array and index == len(keys) - 1:
                self._counts[path] = self._counts.get(path, 0) + 1
            if path in self._counts:
                path = (*path, self._counts[path] - 1)
        return path


class _Value:
    """Whether the value that a line begins goes on in the next one."""

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0

    @property
    def open(self) -> bool:
        return bool(self._quote) or self._depth > 0

    def feed(self, line: str) -> None:
        position = 0
        while True:
            if self._quote:
                end = line.find(self._quote, position)
                if end < 0:
                    return
                position, self._quote = end + 3, ""
            match = _TOKEN.search(line, position)
            if match is None or match[0].startswith("#"):
                return
            position = match.end()
            if match[0] in ('"""', "'''"):
                self._quote = match[0]
            elif match[0] in "[{":
                self._depth += 1
            elif match[0] in "]}":
                self._depth -= 1


def _split(keys: str) -> list[str]:
    return [part[1:-1] if part[0] in "\"'" else part for part in re.findall(_KEY, keys)]


def _without_comment(value: str) -> str:
    for match in _TOKEN.finditer(value):
        if match[0].startswith("#"):
            return value[: match.start()].rstrip()
    return value.rstrip()
