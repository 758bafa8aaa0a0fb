"""A batch of changes to a block map, and the nodes that come of it.

Where new nodes and blocks will lie is not known yet: new nodes refer to each other as objects, and
to new data blocks by their rank among them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TypeAlias

from hf_agent.hyperfile.file.ranges import RangeSet

__all__ = ["NEW_BLOCK", "Child", "MapChanges", "NewInner", "NewLeaf", "NewMap", "NewNode"]

NEW_BLOCK = 3 << 62
"""In a new leaf, this plus a rank stands for the place of a new data block. Never on the store."""


@dataclass(frozen=True, slots=True)
class MapChanges:
    """What happens to the entries. First entries are cleared, then the others are set."""

    written: array[int]
    """Indexes of blocks with new data, strictly ascending; their ranks count from 0."""
    zeroed: array[int]
    """Indexes of blocks that are all zeros now, ascending, none of them in `written`: an explicit
    zero block where there is an entry, and still no entry where there is none."""
    cleared: RangeSet
    """Ranges of indexes that become holes."""

    def next_change(self, index: int) -> int:
        """The first index from `index` on that something happens to; `END` when there is none."""
        found = self.cleared.next_member(index)
        for indexes in (self.written, self.zeroed):
            position = bisect_left(indexes, index)
            if position < len(indexes):
                found = min(found, indexes[position])
        return found

    def sets_any(self, first: int, end: int) -> bool:
        """Whether an entry of `[first, end)` is set, not just cleared."""
        return any(
            bisect_left(indexes, first) < bisect_left(indexes, end)
            for indexes in (self.written, self.zeroed)
        )


@dataclass(slots=True)
class NewLeaf:
    """A leaf to be written; values are pointers, or `NEW_BLOCK` plus a rank."""

    keys: array[int]
    values: array[int]
    pointer: int = 0
    """Once it has a place."""
    level: int = field(default=1, init=False)


@dataclass(slots=True)
class NewInner:
    """An inner node to be written; children are pointers of old nodes, or new nodes."""

    level: int
    keys: array[int]
    children: list[Child]
    pointer: int = 0


NewNode: TypeAlias = NewLeaf | NewInner
Child: TypeAlias = int | NewLeaf | NewInner


@dataclass(frozen=True, slots=True)
class NewMap:
    """The map with the changes."""

    root: NewNode
    """Not a node of its own: it goes into the inode."""
    direct: bool
    entries: int
    """Of the whole map."""
    nodes: list[NewNode]
    """Below the root: highest level first, each level in ascending order of keys."""
