"""Batches of changes to a block map, against a dictionary; with tiny nodes, for deep maps."""

from __future__ import annotations

from array import array

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile.file.map_changes import MapChanges
from hf_agent.hyperfile.file.map_view import MapNode
from hf_agent.hyperfile.file.ranges import END, RangeSet
from hf_agent.hyperfile.pointers import ZERO
from support.map_in_memory import Map, full_nodes


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


async def test_a_batch_of_a_million_appended_blocks_makes_full_nodes_and_no_others() -> None:
    for count in (250_000, 1_000_000):
        tree = Map(255)
        new = await tree.apply(MapChanges(array("Q", range(count)), array("Q"), RangeSet()))
        assert len(new.nodes) == full_nodes(count, 255)


async def append(tree: Map, start: int, end: int, step: int) -> int:
    """Append blocks, `step` of them at a time; the nodes that were read and written."""
    before, written = tree.nodes.loads, 0
    for first in range(start, end, step):
        indexes = array("Q", range(first, min(first + step, end)))
        await tree.apply(MapChanges(indexes, array("Q"), RangeSet()))
        written += tree.written_nodes
    return tree.nodes.loads - before + written


async def test_a_million_appends_in_batches_visit_n_log_n_nodes() -> None:
    tree, step, visits = Map(255), 1000, []
    for start, end in ((0, 250_000), (250_000, 500_000), (500_000, 1_000_000)):
        visits.append(await append(tree, start, end, step))
    # Of a map of 3 levels: a batch fills 4 leaves, and reads and writes the path to them.
    for blocks, found in zip((250_000, 250_000, 500_000), visits, strict=True):
        assert found <= blocks / 255 + blocks / step * 2 * 3
    assert sum(visits) <= 2.2 * (visits[0] + visits[1])


async def test_an_appended_block_visits_its_path_alone_however_large_the_map() -> None:
    for blocks, levels in ((250, 1), (60_000, 2), (1_000_000, 3)):
        tree = Map(255)
        await append(tree, 0, blocks, blocks)
        visits = await append(tree, blocks, blocks + 300, 1)
        # Read and written: a node on each level, and now and then a new one beside it.
        assert visits <= 300 * 2 * levels + 10
