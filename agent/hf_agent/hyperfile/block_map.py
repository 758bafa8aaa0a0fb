"""The block map: a copy-on-write B+tree from data block indexes to block pointers.

Nodes on the store are loaded when a lookup or a change comes to them, and are never changed: a
change copies the nodes on its path. Copies live in this object under temporary ids until
`block_map_placement` gives them a place in a new checkpoint object. Dropping the map drops the
changes.

This module does not choose places, does not write, and does not delete entries.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable

from hf_agent.hyperfile.keys import place_key
from hf_agent.hyperfile.meta_config import MetaConfig
from hf_agent.hyperfile.nodes import (
    DIRECT_POINTERS,
    MAX_LEVEL,
    ROOT_CAPACITY,
    Node,
    Root,
    decode_node,
    decode_root,
    node_capacity,
)
from hf_agent.hyperfile.pointers import DIRTY, decode_place

__all__ = ["BlockMap", "LoadNode"]

LoadNode = Callable[[int], Awaitable[bytes]]
"""Reads the meta block that a pointer leads to: its bytes, exactly one meta block."""

_UNPLACED_TAG = 3 << 62
_NO_LIMIT = 1 << 64


class BlockMap:
    """One container's map, as of one inode, plus the changes made to it here."""

    def __init__(self, root: bytes, meta: MetaConfig, load: LoadNode, *, key: str) -> None:
        """`root` is the inode's 56 bytes; `key` the container's, for errors.

        Raises `FormatError`.
        """
        self.root: Root = decode_root(root, source=f"{key}/inode", offset=104)
        self.added = 0
        """Entries that the changes have added to the map."""
        self._meta = meta
        self._load = load
        self._key = key
        self._capacity = node_capacity(meta.meta_block_size)
        self._unplaced: dict[int, Node] = {}

    # -- looking up ---------------------------------------------------------------------------

    async def lookup(self, first: int, count: int) -> array[int]:
        """Pointers of the data blocks `[first, first + count)`; `HOLE` where there is no entry.

        Raises `FormatError` for damaged nodes, and what loading raises.
        """
        found = array("Q", bytes(8 * count))
        await self._collect(self.root.node, first, first + count, _NO_LIMIT, found)
        return found

    async def _collect(
        self, node: Node, first: int, end: int, limit: int, found: array[int]
    ) -> None:
        keys = node.keys
        if node.level == 1:
            for slot in range(bisect_left(keys, first), bisect_left(keys, end)):
                found[keys[slot] - first] = node.values[slot]
            return
        start = max(bisect_right(keys, first) - 1, 0)
        for slot in range(start, bisect_left(keys, end)):
            child = await self._child(node, slot, limit)
            child_limit = keys[slot + 1] if slot + 1 < len(keys) else limit
            await self._collect(child, first, end, child_limit, found)

    async def _child(self, parent: Node, slot: int, limit: int) -> Node:
        pointer = parent.values[slot]
        unplaced = self._unplaced.get(pointer)
        if unplaced is not None:
            return unplaced
        data = await self._load(pointer)
        place = decode_place(pointer, self._meta.pointer_format)
        return decode_node(
            data,
            level=parent.level - 1,
            first_key=parent.keys[slot],
            limit=parent.keys[slot + 1] if slot + 1 < len(parent.keys) else limit,
            source=place_key(self._key, place, self._meta.pointer_format),
            offset=place.offset,
        )

    # -- changing -----------------------------------------------------------------------------

    async def mark_dirty(self, first: int, count: int) -> None:
        """Set the entries of the data blocks `[first, first + count)` to `DIRTY`, adding them
        where there are none.

        Raises `FormatError` for damaged nodes, and what loading raises; the map is then unusable.
        """
        index, end = first, first + count
        if self.root.direct and end > DIRECT_POINTERS:
            self.root.direct = False
        while index < end:
            path, limit = await self._own_path(index)
            index = self._fill(path, index, min(end, limit), rightmost=limit == _NO_LIMIT)

    async def _own_path(self, index: int) -> tuple[list[tuple[Node, int]], int]:
        """The nodes from the root to the leaf for `index`, each with the slot that was taken (for
        the leaf: 0), all of them changeable; and the first index that belongs to the right."""
        path: list[tuple[Node, int]] = []
        node, limit = self.root.node, _NO_LIMIT
        while node.level > 1:
            slot = max(bisect_right(node.keys, index) - 1, 0)
            child = await self._child(node, slot, limit)
            if node.values[slot] not in self._unplaced:
                node.values[slot] = self._add_unplaced(child)
            if slot + 1 < len(node.keys):
                limit = node.keys[slot + 1]
            path.append((node, slot))
            node = child
        path.append((node, 0))
        return path, limit

    def _add_unplaced(self, node: Node) -> int:
        temporary = _UNPLACED_TAG | len(self._unplaced)
        self._unplaced[temporary] = node
        return temporary

    def _fill(self, path: list[tuple[Node, int]], index: int, end: int, *, rightmost: bool) -> int:
        """Set entries from `index` on in the leaf at the end of `path`, or make room for more.

        Returns the first index that was not set.
        """
        leaf = path[-1][0]
        keys, values = leaf.keys, leaf.values
        capacity = self._capacity_of(leaf)
        slot = bisect_left(keys, index)
        while index < end:
            if slot < len(keys) and keys[slot] == index:
                values[slot] = DIRTY
                slot, index = slot + 1, index + 1
                continue
            room = capacity - len(keys)
            if room <= 0:
                return self._make_room(path, index, slot, rightmost=rightmost)
            upto = min(end, index + room, keys[slot] if slot < len(keys) else end)
            keys[slot:slot] = range(index, upto)
            values[slot:slot] = [DIRTY] * (upto - index)
            self.added += upto - index
            slot, index = slot + upto - index, upto
            self._carry_first_key(path)
        return index

    def _capacity_of(self, node: Node) -> int:
        if node is not self.root.node:
            return self._capacity
        return DIRECT_POINTERS if self.root.direct else ROOT_CAPACITY

    def _carry_first_key(self, path: list[tuple[Node, int]]) -> None:
        """A node's key in its parent is its own first key, exactly."""
        child = path[-1][0]
        for node, slot in reversed(path[:-1]):
            if node.keys[slot] == child.keys[0]:
                return
            node.keys[slot] = child.keys[0]
            child = node

    def _make_room(
        self, path: list[tuple[Node, int]], index: int, slot: int, *, rightmost: bool
    ) -> int:
        """Split the full leaf at the end of `path`; returns the first index that is not set."""
        leaf = path[-1][0]
        if leaf is self.root.node:
            self._push_root_down()
            return index
        if rightmost and slot == len(leaf.keys):
            # Appending: leave the left leaf full, so that a file that only grows has dense nodes.
            right = Node(1, [index], [DIRTY])
            self.added += 1
            index += 1
        else:
            right = _split(leaf)
        self._insert_sibling(path[:-1], right, rightmost=rightmost)
        return index

    def _insert_sibling(
        self, path: list[tuple[Node, int]], right: Node, *, rightmost: bool
    ) -> None:
        """Put `right` into the parent, right behind the child that `path` leads to."""
        parent, slot = path[-1]
        slot += 1
        if len(parent.keys) >= self._capacity_of(parent):
            if parent is self.root.node:
                parent = self._push_root_down()
            elif rightmost and slot == len(parent.keys):
                temporary = self._add_unplaced(right)
                sibling = Node(parent.level, [right.keys[0]], [temporary])
                self._insert_sibling(path[:-1], sibling, rightmost=True)
                return
            else:
                sibling = _split(parent)
                self._insert_sibling(path[:-1], sibling, rightmost=rightmost)
                if slot > len(parent.keys):
                    parent, slot = sibling, slot - len(parent.keys)
        parent.keys.insert(slot, right.keys[0])
        parent.values.insert(slot, self._add_unplaced(right))

    def _push_root_down(self) -> Node:
        """Put one node between the root and its children; returns it."""
        old = self.root.node
        if old.level == MAX_LEVEL:
            raise ValueError(f"a block map has at most {MAX_LEVEL} levels key={self._key}")
        below = Node(old.level, old.keys, old.values)
        self.root.node = Node(old.level + 1, [below.keys[0]], [])
        self.root.node.values.append(self._add_unplaced(below))
        return below

    # -- what a placement needs ---------------------------------------------------------------

    def dirty_levels(self) -> list[list[tuple[int, Node]]]:
        """The nodes below the root that have no place yet, with their temporary ids: highest
        level first, each level in ascending order of keys."""
        levels: list[list[tuple[int, Node]]] = []
        nodes = [self.root.node]
        while nodes[0].level > 1:
            children = (value for node in nodes for value in node.values)
            level = [(v, self._unplaced[v]) for v in children if v in self._unplaced]
            if not level:
                break
            levels.append(level)
            nodes = [node for _, node in level]
        return levels


def _split(node: Node) -> Node:
    """Move the upper half of a node into a new one; returns that."""
    middle = len(node.keys) // 2
    right = Node(node.level, node.keys[middle:], node.values[middle:])
    del node.keys[middle:], node.values[middle:]
    return right
