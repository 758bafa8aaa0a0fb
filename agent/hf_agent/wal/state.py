"""What the log knows of its streams and marks, beside the files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["LogState", "MarkKey", "Marks", "StreamState", "StreamView"]

MarkKey: TypeAlias = str | bytes
"""What a mark is kept under. Each of the two kinds is bounded by itself."""


class StreamState:
    """One stream, for as long as the WAL directory lives.

    The appending thread owns `position`, `note` and `committed`; the writer thread owns `durable`
    and `durable_note`. Each may read the other's: single words that only move forward.
    """

    __slots__ = (
        *("name", "number", "position", "durable", "committed"),
        *("note", "durable_note", "first"),
    )

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.position = 0
        self.durable = 0
        self.committed = 0
        self.note = b""
        self.durable_note = b""
        self.first = 0
        """First position still in the files; changes as files are freed."""


@dataclass(frozen=True, slots=True)
class StreamView:
    """One stream as it is at this moment. Positions are byte counts."""

    name: str
    position: int
    """End of what was accepted."""
    durable: int
    """End of what is on disk and synced."""
    committed: int
    """The store has everything below; told by `Wal.commit`."""
    note: bytes
    """The latest note accepted; empty when there was none."""
    first: int
    """First position that can still be read."""


class Marks:
    """The highest id of each key; bounded, the least recently raised key goes first.

    An id is an integer of up to 126 bits: what users order by two numbers fits into one.
    `str` keys and `bytes` keys do not share a bound.
    """

    __slots__ = ("_limits", "_values")

    def __init__(self, max_text: int, max_binary: int) -> None:
        self._limits = {str: max_text, bytes: max_binary}
        self._values: dict[type[MarkKey], OrderedDict[MarkKey, int]] = {
            str: OrderedDict(),
            bytes: OrderedDict(),
        }

    def get(self, key: MarkKey) -> int:
        """The highest id of `key`; 0 when it is not known."""
        return self._values[type(key)].get(key, 0)

    def move(self, key: MarkKey, value: int) -> bool:
        """Raise `key` to `value`; False when it is there already. It never goes back."""
        values = self._values[type(key)]
        if value <= values.get(key, 0):
            return False
        values[key] = value
        values.move_to_end(key)
        if len(values) > self._limits[type(key)]:
            values.popitem(last=False)
        return True

    def knows_none(self, keys: Iterable[bytes]) -> bool:
        """Whether there is no id of any of these keys."""
        return self._values[bytes].keys().isdisjoint(keys)

    def add_new(self, marks: Mapping[MarkKey, int]) -> bool:
        """Add ids above 0 of keys that are all of one kind, and all not known.

        False, and nothing added, when they are not: then `move` is for them. As `move` one by one
        otherwise, but without Python for each.
        """
        kinds: set[type[MarkKey]] = set(map(type, marks))
        if len(kinds) != 1:
            return False
        kind = kinds.pop()
        values = self._values[kind]
        if not values.keys().isdisjoint(marks):
            return False
        values.update(marks)
        for _ in range(len(values) - self._limits[kind]):
            values.popitem(last=False)
        return True

    def items(self) -> list[tuple[MarkKey, int]]:
        """All marks: `str` keys, then `bytes` keys, each the least recently raised one first."""
        return [item for values in self._values.values() for item in values.items()]

    def copy(self) -> Marks:
        """An independent copy with the same order and limits."""
        marks = Marks(self._limits[str], self._limits[bytes])
        marks._values = {kind: values.copy() for kind, values in self._values.items()}
        return marks


@dataclass(slots=True)
class LogState:
    """The durable state at one place in the log: what a snapshot holds."""

    streams: dict[int, StreamState] = field(default_factory=dict)
    """By number, in the order of their first appearance."""
    marks: Marks = field(default_factory=lambda: Marks(16_384, 65_536))
