"""What the check says, and what it is told of damage that is known already."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

__all__ = ["MOST_OBJECTS", "MOST_VIOLATIONS", "NOTHING_KNOWN", "KnownDamage", "Report", "Violation"]

MOST_VIOLATIONS = 1000
"""Violations that are kept: one damaged node may break a rule for each of its entries."""

MOST_OBJECTS = 200_000
"""Objects that are checked, the newest ones, unless another number is asked for."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold."""

    object: str
    """Key of the object, relative to the store's root."""
    offset: int
    """Where in it, in bytes."""
    rule: str
    certain: bool = True
    """False where something outside of the container may explain it."""
    unchecked: bool = False
    """True where nothing is broken as far as is known: it says what was not looked at."""

    def __str__(self) -> str:
        return f"{self.rule} object={self.object} offset={self.offset}"


@dataclass(frozen=True, slots=True)
class KnownDamage:
    """What is known to be damaged, by checksums for one: it is not looked at, and nothing is
    concluded from what it says."""

    objects: Set[str] = frozenset()
    """Keys of objects without a header that can be relied on."""
    entries: Set[str] = frozenset()
    """Keys of objects whose entries cannot be relied on."""
    nodes: Set[tuple[str, int]] = frozenset()
    """Key and offset of map nodes."""
    blocks: Set[tuple[str, int]] = frozenset()
    """Key and offset of data blocks."""


NOTHING_KNOWN = KnownDamage()


class Report:
    """Collects violations, each once."""

    def __init__(self, most: int = MOST_VIOLATIONS) -> None:
        self._most = most
        self._found: dict[Violation, None] = {}

    def add(self, object: str, offset: int, rule: str, *, certain: bool = True) -> None:
        """Note that `rule` does not hold there."""
        self.take(Violation(object, offset, rule, certain))

    def take(self, violation: Violation) -> None:
        """Note a violation."""
        if len(self._found) < self._most:
            self._found[violation] = None

    def expect(self, holds: bool, object: str, offset: int, rule: str) -> bool:
        """Note it when `rule` does not hold; returns whether it does."""
        if not holds:
            self.add(object, offset, rule)
        return holds

    def violations(self) -> list[Violation]:
        """All that were found, in the order in which they were."""
        return list(self._found)
