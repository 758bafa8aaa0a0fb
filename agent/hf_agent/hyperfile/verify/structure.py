"""The findings of the structure check among those of the verification, none of them twice.

The check is not told how anything is read, only what is known to be damaged: what follows from
that is no finding of its own. Of what it says, that stays which is about a part of an object
(its header, its entries, a map node) that has no finding yet.
"""

from __future__ import annotations

from collections.abc import Iterable

from hf_agent.hyperfile.check import (
    MOST_OBJECTS,
    MOST_VIOLATIONS,
    KnownDamage,
    Violation,
    check_structure,
)
from hf_agent.hyperfile.keys import inode_key, parse_object_key
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.segment import SEGMENT_HEADER_BYTES
from hf_agent.hyperfile.stream_object import STREAM_HEADER_BYTES
from hf_agent.hyperfile.verify.inventory import Inventory
from hf_agent.hyperfile.verify.report import Kind, Problem
from hf_agent.store.base import Store

__all__ = ["FoundDamage", "broken_rules"]

_MOST_KNOWN = 100_000


class FoundDamage:
    """Which parts of objects have findings. Bounded: past that, `complete` is false."""

    def __init__(self) -> None:
        self.complete = True
        self._objects: set[str] = set()
        self._entries: set[str] = set()
        self._nodes: set[tuple[str, int]] = set()
        self._blocks: set[tuple[str, int]] = set()
        self._parts: set[tuple[str, str]] = set()

    def add(self, problem: Problem) -> None:
        """Take note of a finding."""
        if problem.kind is Kind.BLOCK:
            if len(self._blocks) < _MOST_KNOWN:
                self._blocks.add((problem.key, problem.offset))
            return
        if len(self._parts) >= _MOST_KNOWN:
            self.complete = False
            return
        self._parts.add((problem.key, problem.what))
        if problem.kind is Kind.OBJECT:
            self._objects.add(problem.key)
        elif problem.kind is Kind.NODE:
            self._nodes.add((problem.key, problem.offset))
        elif problem.what == "entries":
            self._entries.add(problem.key)

    def known(self, without_header: Iterable[str]) -> KnownDamage:
        """The same for the check; `without_header` are keys of objects that have no good one."""
        return KnownDamage(
            frozenset((*self._objects, *without_header)),
            frozenset(self._entries),
            frozenset(self._nodes),
            frozenset(self._blocks),
        )

    def has(self, key: str, what: str) -> bool:
        """Whether a part of an object has a finding."""
        return (key, what) in self._parts


async def broken_rules(
    store: Store,
    key: str,
    inventory: Inventory | None,
    found: FoundDamage,
    *,
    without_header: Iterable[str],
    newest: int | None,
    max_objects: int = MOST_OBJECTS,
) -> tuple[list[Problem], list[tuple[str, str, str]]]:
    """What the structure check has to add: errors, and notes as object, part of it, text.

    `newest` and `max_objects` as for `check_structure`. Raises the store's errors.
    """
    known = found.known(without_header)
    violations = await check_structure(
        store, key, newest=newest, known=known, max_objects=max_objects
    )
    errors: list[Problem] = []
    notes: list[tuple[str, str, str]] = []
    for violation in violations:
        if violation.unchecked:
            more = "`verify --max-objects N` checks more, for up to 2 KB of memory each"
            notes.append((inode_key(key), "checkpoints", f"{violation.rule}; {more}"))
            continue
        problem = _problem(key, inventory, violation)
        if found.has(problem.key, problem.what):
            continue
        if violation.certain:
            errors.append(problem)
        else:
            notes.append((problem.key, problem.what, f"it breaks a rule, or may: {problem.text}"))
    if len(violations) == MOST_VIOLATIONS:
        notes.append((inode_key(key), "inode", "there may be more broken rules than are listed"))
    return errors, notes


def _problem(key: str, inventory: Inventory | None, violation: Violation) -> Problem:
    at, number, what = -1, 0, "object"
    if violation.object == inode_key(key):
        what = "inode"
    elif inventory is not None:
        name = parse_object_key(key, violation.object)
        at = -1 if name is None else inventory.find(name.checkpoint, name.part or 0)
        if at >= 0 and inventory.has_header(at):
            number, what = _part_of_object(inventory, at, violation.offset)
    # Whether that makes bytes unreadable, it does not say.
    text = f"a rule does not hold: {violation.rule}"
    return Problem(at, Kind.NOTHING, number, violation.object, violation.offset, what, text)


def _part_of_object(inventory: Inventory, at: int, offset: int) -> tuple[int, str]:
    meta, meta_at = inventory.meta, inventory.meta_offset(at)
    data_at = inventory.data_offset(at)
    meta_end = meta_at + (inventory.meta_blocks[at] << meta.meta_shift)
    data_end = data_at + (inventory.data_blocks[at] << meta.data_shift)
    if meta_at <= offset < meta_end:
        number = (offset - meta_at) >> meta.meta_shift
        return number, f"map node {number}"
    if data_at <= offset < data_end and not (offset == 0 and data_at == 0):
        number = (offset - data_at) >> meta.data_shift
        return number, f"data block {number}"
    if meta.pointer_format is PointerFormat.STREAM:
        in_header = offset >= inventory.sizes[at] - STREAM_HEADER_BYTES or offset == 0
    else:
        in_header = offset < SEGMENT_HEADER_BYTES
    return 0, "header" if in_header else "entries"
