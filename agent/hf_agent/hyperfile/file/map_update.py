"""A batch of changes to a block map: which nodes it needs anew.

The old map is walked once, from the root, into those nodes only that a change comes to; each of
them is merged with its changes as a whole. So n changes cost n log n steps, and few of them are
Python's.
"""

from __future__ import annotations

import errno
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.file.map_changes import (
    NEW_BLOCK,
    Child,
    MapChanges,
    NewInner,
    NewLeaf,
    NewMap,
    NewNode,
)
from hf_agent.hyperfile.file.map_view import MapNode, MapView
from hf_agent.hyperfile.file.ranges import END
from hf_agent.hyperfile.nodes import DIRECT_POINTERS, MAX_LEVEL, ROOT_CAPACITY
from hf_agent.hyperfile.pointers import ZERO

__all__ = ["update_map"]

_LOADED_AT_A_TIME = 64
_IN_FLIGHT = 8


class _Entries(NamedTuple):
    """The children of a node before they are cut to size."""

    keys: array[int]
    children: list[Child]


async def update_map(view: MapView, changes: MapChanges, *, capacity: int) -> NewMap:
    """The map of `view` with `changes`; `capacity` is that of a node.

    Raises `ChecksumError` or `FormatError` for damaged nodes, the store's errors, and
    `OSError(EFBIG)` when it would get too deep.
    """
    update = _Update(view, changes, capacity)
    root, direct = await update.run()
    return NewMap(root, direct, view.entries + update.added, list(_new_nodes(root)))


class _Update:
    def __init__(self, view: MapView, changes: MapChanges, capacity: int) -> None:
        self._view = view
        self._nodes = view.nodes
        self._changes = changes
        self._capacity = capacity
        self.added = 0
        """Entries more (or fewer) than before."""

    async def run(self) -> tuple[NewNode, bool]:
        root = self._view.root
        if self._changes.cleared.covers(0, END):
            self.added = -self._view.entries  # nobody needs to count them
            root = MapNode(1, array("Q"), array("Q"))
        if root.level == 1:
            leaf = self._merge_leaf(root, 0, END)
            return self._root_over_entries(leaf.keys, leaf.values)
        entries = await self._merge_inner(root, 0, END)
        return await self._root_over_nodes(entries, root.level - 1)

    # -- one node -----------------------------------------------------------------------------

    def _merge_leaf(self, node: MapNode, low: int, high: int) -> MapNode:
        """The entries `[low, high)` with their changes; `node` itself when nothing changes."""
        changes = self._changes
        keys, values = node.keys, node.values
        for start, end in changes.cleared.within(low, high):
            first, last = bisect_left(keys, start), bisect_left(keys, end)
            if first < last:
                if keys is node.keys:
                    keys, values = keys[:], values[:]
                del keys[first:last], values[first:last]
        first, last = (bisect_left(changes.written, bound) for bound in (low, high))
        if first < last:
            new_keys = changes.written[first:last]
            new_values = array("Q", range(NEW_BLOCK + first, NEW_BLOCK + last))
            if not keys or keys[-1] < new_keys[0]:
                keys, values = keys + new_keys, values + new_values
            else:
                merged = dict(zip(keys, values, strict=True))
                merged.update(zip(new_keys, new_values, strict=True))
                keys = array("Q", sorted(merged))
                values = array("Q", map(merged.__getitem__, keys))
        first, last = (bisect_left(changes.zeroed, bound) for bound in (low, high))
        for index in changes.zeroed[first:last]:
            slot = bisect_left(keys, index)
            if slot < len(keys) and keys[slot] == index and values[slot] != ZERO:
                if values is node.values:
                    values = values[:]
                values[slot] = ZERO
        if keys is node.keys and values is node.values:
            return node
        self.added += len(keys) - len(node.keys)
        return MapNode(1, keys, values)

    async def _merge_inner(self, node: MapNode, low: int, high: int) -> _Entries:
        """The children of an inner node that covers the indexes `[low, high)`, changed."""
        touched = list(self._touched(node, low, high))
        merged = _Entries(array("Q"), [])
        copied = 0
        for start in range(0, len(touched), _LOADED_AT_A_TIME):
            batch = touched[start : start + _LOADED_AT_A_TIME]
            loaded = await map_concurrently(
                lambda each: self._load(node, *each), batch, limit=_IN_FLIGHT
            )
            for (slot, child_low, child_high), child in zip(batch, loaded, strict=True):
                merged.keys.extend(node.keys[copied:slot])
                merged.children.extend(node.values[copied:slot])
                copied = slot + 1
                if child is None:
                    self.added -= await self._count(node, slot, child_high)
                    continue
                self._put(merged, node, slot, await self._merge(child, child_low, child_high))
        merged.keys.extend(node.keys[copied:])
        merged.children.extend(node.values[copied:])
        return merged

    def _touched(self, node: MapNode, low: int, high: int) -> Iterator[tuple[int, int, int]]:
        """Slots of the children that a change comes to, with the indexes that they cover."""
        keys = node.keys
        index = self._changes.next_change(low)
        while index < high:
            slot = max(bisect_left(keys, index + 1) - 1, 0)
            child_low = keys[slot] if slot else low
            child_high = keys[slot + 1] if slot + 1 < len(keys) else high
            yield slot, child_low, child_high
            index = self._changes.next_change(child_high) if child_high < END else END

    async def _load(self, parent: MapNode, slot: int, low: int, high: int) -> MapNode | None:
        """A child; None when nothing of it stays."""
        first_key = parent.keys[slot]
        changes = self._changes
        if changes.cleared.covers(first_key, high) and not changes.sets_any(low, high):
            return None
        return await self._nodes.load(
            parent.values[slot], level=parent.level - 1, first_key=first_key, limit=high
        )

    async def _merge(self, node: MapNode, low: int, high: int) -> Iterable[NewNode | None]:
        """The nodes that take the place of one; None stands for the old one."""
        if node.level == 1:
            leaf = self._merge_leaf(node, low, high)
            if leaf is node:
                return (None,)
            old = len(node.keys)
            kept = leaf.keys[:old] == node.keys and leaf.values[:old] == node.values
            appended = kept and high == END
            bounds = _cut(len(leaf.keys), self._capacity, dense=appended)
            new = [NewLeaf(leaf.keys[a:b], leaf.values[a:b]) for a, b in bounds]
            # A full leaf that more is appended behind stays as it is.
            return (None, *new[1:]) if appended and bounds[0] == (0, old) else new
        entries = await self._merge_inner(node, low, high)
        if entries.keys == node.keys and not any(
            isinstance(child, NewLeaf | NewInner) for child in entries.children
        ):
            return (None,)
        return list(self._inner_nodes(entries, node.level, dense=high == END))

    def _inner_nodes(self, entries: _Entries, level: int, *, dense: bool) -> Iterator[NewNode]:
        for a, b in _cut(len(entries.keys), self._capacity, dense=dense):
            yield NewInner(level, entries.keys[a:b], entries.children[a:b])

    def _put(
        self, merged: _Entries, node: MapNode, slot: int, pieces: Iterable[NewNode | None]
    ) -> None:
        """Add what has become of a child; new neighbours that fit one node share it."""
        for piece in pieces:
            if piece is None:
                merged.keys.append(node.keys[slot])
                merged.children.append(node.values[slot])
                continue
            before = merged.children[-1] if merged.children else 0
            if not isinstance(before, int) and (
                len(before.keys) + len(piece.keys) <= self._capacity
            ):
                before.keys.extend(piece.keys)
                if isinstance(before, NewLeaf):
                    assert isinstance(piece, NewLeaf)
                    before.values.extend(piece.values)
                else:
                    assert isinstance(piece, NewInner)
                    before.children.extend(piece.children)
                continue
            merged.keys.append(piece.keys[0])
            merged.children.append(piece)

    async def _count(self, parent: MapNode, slot: int, high: int) -> int:
        """Entries below a child that is dropped."""
        node = await self._nodes.load(
            parent.values[slot], level=parent.level - 1, first_key=parent.keys[slot], limit=high
        )
        if node.level == 1:
            return len(node.keys)

        async def count(position: int) -> int:
            limit = node.keys[position + 1] if position + 1 < len(node.keys) else high
            return await self._count(node, position, limit)

        limit = _IN_FLIGHT if node.level == 2 else 1
        return sum(await map_concurrently(count, range(len(node.keys)), limit=limit))

    # -- the root -----------------------------------------------------------------------------

    def _root_over_entries(self, keys: array[int], values: array[int]) -> tuple[NewNode, bool]:
        """The root of a map that has just these entries, in no node yet."""
        direct = not keys or keys[-1] < DIRECT_POINTERS
        if direct or len(keys) <= ROOT_CAPACITY:
            return NewLeaf(keys, values), direct
        bounds = _cut(len(keys), self._capacity, dense=True)
        leaves: list[Child] = [NewLeaf(keys[a:b], values[a:b]) for a, b in bounds]
        first_keys = array("Q", (keys[a] for a, _ in bounds))
        return self._grown(_Entries(first_keys, leaves), 1), False

    async def _root_over_nodes(self, entries: _Entries, level: int) -> tuple[NewNode, bool]:
        """The root over nodes of `level`."""
        if not entries.keys or entries.keys[-1] < DIRECT_POINTERS:
            few = await self._few_entries(entries, level)
            if few is not None:
                return few, True
        while len(entries.children) == 1:
            only = entries.children[0]
            if isinstance(only, int) or len(only.keys) > ROOT_CAPACITY:
                break
            if isinstance(only, NewLeaf):
                return only, False
            entries, level = _Entries(only.keys, only.children), level - 1
        return self._grown(entries, level), False

    def _grown(self, entries: _Entries, level: int) -> NewNode:
        """A root over nodes of `level`, with as many levels between as they need."""
        while len(entries.keys) > ROOT_CAPACITY:
            level += 1
            nodes: list[Child] = list(self._inner_nodes(entries, level, dense=True))
            first_keys = array("Q", (n.keys[0] for n in nodes if not isinstance(n, int)))
            entries = _Entries(first_keys, nodes)
        if level + 1 > MAX_LEVEL:
            raise OSError(errno.EFBIG, f"a block map has at most {MAX_LEVEL} levels")
        return NewInner(level + 1, entries.keys, entries.children)

    async def _few_entries(self, entries: _Entries, level: int) -> NewLeaf | None:
        """All entries of the map when a direct root has slots for them, else None."""
        keys, values = array("Q"), array("Q")
        for position, child in enumerate(entries.children):
            node: MapNode | NewNode
            if isinstance(child, int):
                later = entries.keys[position + 1 :]
                node = await self._nodes.load(
                    child,
                    level=level,
                    first_key=entries.keys[position],
                    limit=later[0] if later else END,
                )
            else:
                node = child
            if node.keys[-1] >= DIRECT_POINTERS:
                return None
            if isinstance(node, NewInner):
                below = await self._few_entries(_Entries(node.keys, node.children), level - 1)
            elif node.level > 1:
                below = await self._few_entries(_Entries(node.keys, list(node.values)), level - 1)
            else:
                below = NewLeaf(node.keys, node.values)
            if below is None:
                return None
            keys.extend(below.keys)
            values.extend(below.values)
        return NewLeaf(keys, values)


def _cut(count: int, capacity: int, *, dense: bool) -> list[tuple[int, int]]:
    """Bounds of the nodes that `count` entries are cut into.

    Dense: all but the last are full, so that a file that only grows has no half-empty nodes.
    Else they are of equal size, so that each has room for what comes between.
    """
    if dense or count <= capacity:
        return [(start, min(start + capacity, count)) for start in range(0, count, capacity)]
    nodes = -(-count // capacity)
    bounds = [count * number // nodes for number in range(nodes + 1)]
    return list(pairwise(bounds))


def _new_nodes(root: NewNode) -> Iterator[NewNode]:
    """The new nodes below a root, level by level."""
    level = [root]
    while level:
        below: list[NewNode] = []
        for node in level:
            if isinstance(node, NewInner):
                below.extend(child for child in node.children if not isinstance(child, int))
        yield from below
        level = below
