"""What the check says."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Report", "Violation"]

_MOST = 1000
"""Violations that are kept: one damaged node may break a rule for each of its entries."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold."""

    object: str
    """Key of the object, relative to the store's root."""
    offset: int
    """Where in it, in bytes."""
    rule: str

    def __str__(self) -> str:
        return f"{self.rule} object={self.object} offset={self.offset}"


class Report:
    """Collects violations, each once."""

    def __init__(self) -> None:
        self._found: dict[Violation, None] = {}

    def add(self, object: str, offset: int, rule: str) -> None:
        """Note that `rule` does not hold there."""
        if len(self._found) < _MOST:
            self._found[Violation(object, offset, rule)] = None

    def expect(self, holds: bool, object: str, offset: int, rule: str) -> bool:
        """Note it when `rule` does not hold; returns whether it does."""
        if not holds:
            self.add(object, offset, rule)
        return holds

    def violations(self) -> list[Violation]:
        """All that were found, in the order in which they were."""
        return list(self._found)
