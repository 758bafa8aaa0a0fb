"""A block map that is changed batch by batch, without a store: nodes are kept as they are."""

from __future__ import annotations

import itertools
from array import array
from dataclasses import dataclass, field

from hf_agent.hyperfile.file.map_changes import NEW_BLOCK, MapChanges, NewLeaf, NewMap, NewNode
from hf_agent.hyperfile.file.map_update import update_map
from hf_agent.hyperfile.file.map_view import MapNode, MapView
from hf_agent.hyperfile.file.object_encoding import child_pointers, leaf_values

__all__ = ["Map", "Nodes", "full_nodes"]


@dataclass
class Nodes:
    """Stands for the store: nodes by pointers, and how many of them were read."""

    known: dict[int, MapNode] = field(default_factory=dict)
    loads: int = 0

    async def load(self, pointer: int, *, level: int, first_key: int, limit: int) -> MapNode:
        node = self.known[pointer]
        assert (node.level, node.keys[0]) == (level, first_key)
        assert node.keys[-1] < limit
        self.loads += 1
        return node


class Map:
    """A map that is changed batch by batch, as its inode and objects would hold it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.nodes = Nodes()
        self.root = MapNode(1, array("Q"), array("Q"))
        self.direct = True
        self.entries = 0
        self.blocks = 0
        self.written_nodes = 0

    def view(self) -> MapView:
        view = MapView.__new__(MapView)
        view.root, view.direct, view.entries = self.root, self.direct, self.entries
        view.nodes = self.nodes  # type: ignore[assignment]
        return view

    async def apply(self, changes: MapChanges) -> NewMap:
        new = await update_map(self.view(), changes, capacity=self.capacity)
        first = self.blocks
        self.blocks += len(changes.written)
        places = array("Q", range(first + 1, self.blocks + 1))
        for rank, node in enumerate(new.nodes):
            node.pointer = 1 << 40 | len(self.nodes.known) + rank
        for node in new.nodes:
            self.nodes.known[node.pointer] = self.placed(node, places)
        self.root, self.direct = self.placed(new.root, places), new.direct
        self.entries = new.entries
        self.written_nodes = len(new.nodes)
        return new

    @staticmethod
    def placed(node: NewNode, places: array[int]) -> MapNode:
        values = leaf_values(node, places) if isinstance(node, NewLeaf) else child_pointers(node)
        assert max(values, default=0) < NEW_BLOCK
        return MapNode(node.level, node.keys, values)

    def check(self) -> dict[int, int]:
        """Every rule for nodes; the entries."""
        entries: dict[int, int] = {}
        if self.direct:
            assert self.root.level == 1
            assert all(key < 6 for key in self.root.keys)
            entries = dict(zip(self.root.keys, self.root.values, strict=True))
        else:
            assert 1 <= len(self.root.keys) <= 3
            self._walk(self.root, entries)
            assert max(entries) >= 6, "a map of the first six blocks alone is a direct root"
        assert len(entries) == self.entries
        return entries

    def _walk(self, node: MapNode, entries: dict[int, int]) -> None:
        assert all(one < two for one, two in itertools.pairwise(node.keys))
        for key, value in zip(node.keys, node.values, strict=True):
            if node.level == 1:
                assert not entries or key > max(itertools.islice(reversed(entries), 1))
                entries[key] = value
                continue
            child = self.nodes.known[value]
            assert child.level == node.level - 1
            assert child.keys[0] == key, "a node's key in its parent is its first key"
            assert 1 <= len(child.keys) <= self.capacity
            self._walk(child, entries)


def full_nodes(entries: int, capacity: int) -> int:
    """Nodes below the root of a map that has just so many entries."""
    total, level = 0, entries
    while level > 3:
        level = -(-level // capacity)
        total += level
    return total
