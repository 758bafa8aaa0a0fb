"""Batches of changes to a block map, against a dictionary; with tiny nodes, for deep maps."""

from __future__ import annotations

import itertools
import time
from array import array
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile.file.map_changes import (
    NEW_BLOCK,
    MapChanges,
    NewLeaf,
    NewMap,
    NewNode,
)
from hf_agent.hyperfile.file.map_update import update_map
from hf_agent.hyperfile.file.map_view import MapNode, MapView
from hf_agent.hyperfile.file.object_encoding import child_pointers, leaf_values
from hf_agent.hyperfile.file.ranges import END, RangeSet
from hf_agent.hyperfile.pointers import ZERO


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


def changes(written: list[int], zeroed: list[int], cleared: list[tuple[int, int]]) -> MapChanges:
    ranges = RangeSet()
    for start, end in cleared:
        ranges.add(start, end)
    return MapChanges(array("Q", written), array("Q", zeroed), ranges)


def model_apply(model: dict[int, int], change: MapChanges, first: int) -> dict[int, int]:
    kept = {key: value for key, value in model.items() if key not in change.cleared}
    for key in change.zeroed:
        if key in kept:
            kept[key] = ZERO
    for rank, key in enumerate(change.written):
        kept[key] = first + rank + 1
    return dict(sorted(kept.items()))


indexes = st.one_of(st.integers(0, 12), st.integers(0, 400), st.integers(0, END - 1))
runs = st.tuples(st.integers(0, 300), st.integers(1, 80)).map(
    lambda run: list(range(run[0], run[0] + run[1]))
)
index_sets = st.one_of(
    st.lists(indexes, max_size=8, unique=True),
    runs,
    st.lists(st.integers(0, 400), max_size=60, unique=True),
).map(sorted)
clearings = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 400), st.integers(0, 400)),
        st.integers(0, 500).map(lambda start: (start, END)),
    ),
    max_size=3,
)
batches = st.lists(st.tuples(index_sets, index_sets, clearings), min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(batches=batches, capacity=st.integers(3, 9))
async def test_a_map_holds_what_batch_after_batch_has_put_into_it(
    batches: list[tuple[list[int], list[int], list[tuple[int, int]]]], capacity: int
) -> None:
    tree, model = Map(capacity), dict[int, int]()
    for written, zeroed, cleared in batches:
        change = changes(written, [i for i in zeroed if i not in set(written)], cleared)
        model = model_apply(model, change, tree.blocks)
        await tree.apply(change)
        assert tree.check() == model


async def test_appending_leaves_full_nodes_behind() -> None:
    tree = Map(10)
    for index in range(1000):
        await tree.apply(changes([index], [], []))
    leaves = [n for n in tree.nodes.known.values() if n.level == 1]
    assert tree.check().keys() == set(range(1000))
    reachable = await count_leaves(tree)
    assert reachable == 100
    assert len(leaves) <= 1000 + 100, "an append writes the last leaf, and no other"


async def count_leaves(tree: Map) -> int:
    """Leaves below the root."""

    def count(node: MapNode) -> int:
        if node.level == 1:
            return 1
        return sum(count(tree.nodes.known[value]) for value in node.values)

    return count(tree.root)


async def test_a_change_touches_its_path_alone() -> None:
    tree = Map(255)
    await tree.apply(changes(list(range(100_000)), [], []))
    levels = tree.root.level
    tree.nodes.loads = 0
    await tree.apply(changes([50_000], [], []))
    assert tree.nodes.loads == levels - 1
    assert tree.written_nodes == levels - 1


async def test_clearing_all_looks_at_nothing() -> None:
    tree = Map(255)
    await tree.apply(changes(list(range(100_000)), [], []))
    tree.nodes.loads = 0
    await tree.apply(changes([7], [], [(0, END)]))
    assert tree.nodes.loads == 0
    assert tree.check().keys() == {7}


async def test_zeros_over_a_hole_leave_it_a_hole_and_change_no_node() -> None:
    tree = Map(255)
    await tree.apply(changes([0, 9, 1000], [], []))
    await tree.apply(changes([], [5, 500], []))
    assert tree.check().keys() == {0, 9, 1000}
    assert tree.written_nodes == 0


async def test_new_neighbours_that_fit_one_node_share_it() -> None:
    tree = Map(10)
    await tree.apply(changes(list(range(100)), [], []))
    await tree.apply(changes([], [], [(start, start + 9) for start in range(0, 100, 10)]))
    assert tree.check().keys() == set(range(9, 100, 10))
    assert await count_leaves(tree) == 1


def full_nodes(entries: int, capacity: int) -> int:
    """Nodes below the root of a map that has just so many entries."""
    total, level = 0, entries
    while level > 3:
        level = -(-level // capacity)
        total += level
    return total


async def test_entries_of_a_million_appends_take_few_steps_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """n log n: four times the blocks take about four times as long, and nodes are full."""
    figures = []
    for count in (250_000, 1_000_000):
        tree = Map(255)
        change = MapChanges(array("Q", range(count)), array("Q"), RangeSet())
        start = time.perf_counter()
        new = await tree.apply(change)
        figures.append((count, time.perf_counter() - start, len(new.nodes)))
        assert len(new.nodes) == full_nodes(count, 255)
    with capsys.disabled():
        for count, seconds, written in figures:
            print(
                f"\nmap update: {count} appended blocks, {seconds:.3f} s, {written} nodes", end=""
            )
