"""The block map under any order of changes, written out and read again."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile.block_map import BlockMap
from hf_agent.hyperfile.block_map_placement import place_dirty
from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.nodes import (
    DIRECT_ROOT_BYTES_EMPTY,
    Node,
    Root,
    decode_node,
    decode_root,
    encode_node_into,
    encode_root,
    node_capacity,
    pack_user_data,
)
from hf_agent.hyperfile.pointers import DIRTY, HOLE, ZERO, Place, decode_place, encode_place

META = MetaConfig(12, 12, PointerFormat.PARTED)
EMPTY = pack_user_data(DIRECT_ROOT_BYTES_EMPTY, 3)


class Shelf:
    """Places maps in made-up objects and loads their nodes again."""

    def __init__(self) -> None:
        self.nodes: dict[int, bytes] = {}
        self.loads = 0
        self.checkpoint = 0
        self.root = EMPTY
        self.model: dict[int, int] = {}
        """Pointer of every entry, as it must be."""

    async def load(self, pointer: int) -> bytes:
        self.loads += 1
        return self.nodes[pointer]

    def map(self) -> BlockMap:
        return BlockMap(self.root, META, self.load, key="k")

    async def change(self, runs: list[tuple[int, int]]) -> BlockMap:
        """Change runs of blocks (first, count), as one checkpoint."""
        block_map = self.map()
        changed: set[int] = set()
        for first, count in runs:
            await block_map.mark_dirty(first, count)
            changed.update(range(first, first + count))
        assert block_map.added == len(changed - self.model.keys())
        self._place(block_map, sorted(changed))
        return block_map

    def _place(self, block_map: BlockMap, changed: list[int]) -> None:
        self.checkpoint += 1
        meta_blocks = sum(map(len, block_map.dirty_levels()))
        nodes, entries = bytearray(4096 * meta_blocks), bytearray(16 * len(changed))
        placement = place_dirty(
            block_map,
            checkpoint=self.checkpoint,
            meta=META,
            meta_offset=4096,
            data_offset=4096 * (1 + meta_blocks),
            entries=memoryview(entries),
            nodes=memoryview(nodes),
        )
        for slot, index in enumerate(changed):
            place = Place(self.checkpoint, 0, 4096 * (1 + meta_blocks + slot))
            self.model[index] = encode_place(place, META.pointer_format)
        for number in range(meta_blocks):
            place = Place(self.checkpoint, 0, 4096 * (1 + number))
            pointer = encode_place(place, META.pointer_format)
            self.nodes[pointer] = bytes(nodes[4096 * number : 4096 * (number + 1)])
        assert set(placement.rightmost) <= self.nodes.keys()
        self.root = placement.root

    async def check(self) -> None:
        """The map holds just the model's entries, and every node keeps the rules."""
        indexes = sorted(self.model)
        if not indexes:
            return
        root = decode_root(self.root, source="root")
        assert root.user_data == 3
        found = self._walk(root.node)
        assert found == [(index, self.model[index]) for index in indexes]
        assert root.direct <= (indexes[-1] < 6)
        for index in (indexes[0], indexes[-1], indexes[len(indexes) // 2]):
            first = max(index - 3, 0)
            pointers = await self.map().lookup(first, 7)
            assert list(pointers) == [self.model.get(first + i, HOLE) for i in range(7)]

    def _walk(self, node: Node) -> list[tuple[int, int]]:
        entries = list(zip(node.keys, node.values, strict=True))
        if node.level == 1:
            return entries
        found = []
        for key, pointer in entries:
            # `decode_node` holds a child to its parent's key, its level and its order.
            child = decode_node(
                self.nodes[pointer],
                level=node.level - 1,
                first_key=key,
                limit=1 << 64,
                source="node",
                offset=0,
            )
            found += self._walk(child)
        return found


RUNS = st.lists(
    st.lists(
        st.tuples(
            st.one_of(st.integers(0, 12), st.integers(0, 3000), st.integers(0, 1 << 60)),
            st.one_of(st.integers(1, 7), st.integers(1, 600)),
        ),
        min_size=1,
        max_size=6,
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=150, deadline=None)
@given(RUNS)
async def test_any_runs_in_any_order_give_the_map_of_a_dict(
    checkpoints: list[list[tuple[int, int]]],
) -> None:
    shelf = Shelf()
    for runs in checkpoints:
        await shelf.change(runs)
        await shelf.check()


@pytest.mark.parametrize("seed", range(4))
async def test_single_random_inserts_split_nodes_at_every_level(seed: int) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    shelf = Shelf()
    order = list(range(6000))
    rng.shuffle(order)
    for start in range(0, len(order), 500):
        await shelf.change([(index * 7, 1) for index in order[start : start + 500]])
    await shelf.check()
    assert decode_root(shelf.root, source="root").node.level >= 3


async def test_inner_nodes_split_too() -> None:
    rng = random.Random(9)
    order = list(range(60_000))
    rng.shuffle(order)
    shelf = Shelf()
    block_map = shelf.map()
    for index in order:
        await block_map.mark_dirty(index, 1)
    levels = block_map.dirty_levels()
    assert len(levels) == 2
    assert len(levels[0]) > 1
    assert all(len(node.keys) > 100 for _, node in levels[0])
    shelf._place(block_map, sorted(order))
    await shelf.check()
    # And once more from the store, at the left end of every node.
    await shelf.change([(index, 1) for index in range(0, 60_000, 127)])
    await shelf.check()


async def test_a_full_inner_node_in_the_middle_is_split_in_halves() -> None:
    shelf = Shelf()
    # Dense: every leaf and every inner node but the last is full.
    await shelf.change([(index * 2, 1) for index in range(255 * 260)])
    await shelf.change([(index * 2 + 1, 1) for index in range(1000, 60_000, 777)])
    await shelf.check()


async def test_descending_inserts_move_the_first_keys_of_all_ancestors() -> None:
    shelf = Shelf()
    for index in range(2000, 0, -5):
        await shelf.change([(index, 1)])
    await shelf.check()


async def test_a_million_appends_make_a_dense_map_with_few_loads() -> None:
    shelf = Shelf()
    block_map = shelf.map()
    for first in range(0, 1_000_000, 1000):
        await block_map.mark_dirty(first, 1000)
    levels = block_map.dirty_levels()
    # 3922 full leaves, 16 nodes over them, and one more, over which the root stands.
    assert [len(level) for level in levels] == [1, 16, 3922]
    assert all(len(node.keys) == 255 for _, node in levels[-1][:-1])
    assert shelf.loads == 0


async def test_an_append_changes_and_loads_only_the_right_edge() -> None:
    shelf = Shelf()
    await shelf.change([(0, 2000)])
    shelf.loads = 0
    block_map = await shelf.change([(2000, 1)])
    assert [len(level) for level in block_map.dirty_levels()] == [1, 1]
    assert shelf.loads == 2


async def test_a_dropped_map_leaves_no_trace() -> None:
    shelf = Shelf()
    await shelf.change([(0, 900)])
    await shelf.map().mark_dirty(0, 900)
    await shelf.check()


@pytest.mark.parametrize(
    ("indexes", "direct", "level"),
    [
        ([0, 5], True, 1),
        ([0, 1, 2, 3, 4, 5], True, 1),
        ([6], False, 1),
        ([0, 5, 6], False, 1),
        ([0, 1, 2, 6], False, 2),
        ([0, 1, 2, 3, 4, 5, 6], False, 2),
    ],
)
async def test_the_root_grows_from_direct_to_a_tree(
    indexes: list[int], direct: bool, level: int
) -> None:
    at_once, one_by_one = Shelf(), Shelf()
    await at_once.change([(index, 1) for index in indexes])
    for index in indexes:
        await one_by_one.change([(index, 1)])
    for shelf in (at_once, one_by_one):
        await shelf.check()
        root = decode_root(shelf.root, source="root")
        assert (root.direct, root.node.level) == (direct, level)


async def test_explicit_zeros_and_direct_holes_are_kept_apart() -> None:
    root = Root(
        Node(1, [1, 3], [ZERO, encode_place(Place(1, 0, 4096), META.pointer_format)]), True, 3
    )
    shelf = Shelf()
    shelf.root = encode_root(root)
    pointers = await shelf.map().lookup(0, 6)
    assert list(pointers)[:3] == [HOLE, ZERO, HOLE]
    assert decode_root(shelf.root, source="root") == root


def place(offset: int) -> int:
    return encode_place(Place(1, 0, offset), META.pointer_format)


def block(node: Node) -> bytes:
    data = bytearray(4096)
    encode_node_into(node, memoryview(data))
    return bytes(data)


def change_byte(at: int, value: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([value]) + data[at + 1 :]


LEAF = Node(1, [10, 20, 30], [place(4096), ZERO, place(8192)])


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (change_byte(0, 0), "level 1 was expected"),
        (change_byte(1, 2), "level 1 was expected"),
        (change_byte(1, 200), "level 1 was expected"),
        (change_byte(2, 0), "cannot have 0 children"),
        (change_byte(3, 1), "cannot have 259 children"),
        (change_byte(8, 11), "is not its key 10"),
        (change_byte(16, 5), "do not ascend"),
        (change_byte(16, 30), "do not ascend"),
        (change_byte(24, 99), "not below"),
        (change_byte(8 + 8 * 255 + 7, 0xC0), "no pointer of its kind"),
        (change_byte(8 + 8 * 255 + 7, 0x3F), "no pointer of its kind"),
    ],
)
async def test_a_damaged_node_is_named(damage: Callable[[bytes], bytes], rule: str) -> None:
    root = Root(Node(2, [10, 40], [place(4096), place(8192)]), False, 3)

    async def load(pointer: int) -> bytes:
        return damage(block(LEAF))

    block_map = BlockMap(encode_root(root), META, load, key="k")
    with pytest.raises(FormatError, match=rule) as caught:
        await block_map.lookup(20, 1)
    assert (caught.value.object, caught.value.offset) == ("k/0000000001.0", 4096)
    with pytest.raises(FormatError, match=rule):
        await block_map.mark_dirty(20, 1)


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (change_byte(1, 0), "level 1 to 14"),
        (change_byte(1, 15), "level 1 to 14"),
        (change_byte(0, 3), "leaf flag"),
        (change_byte(2, 4), "cannot have 4 children"),
        (change_byte(2, 0), "cannot have 0 children"),
        (change_byte(16, 1), "do not ascend"),
        (change_byte(39, 0), "no pointer of its kind"),
        (change_byte(0, 0), "direct root"),
    ],
)
def test_a_damaged_root_is_named(damage: Callable[[bytes], bytes], rule: str) -> None:
    good = encode_root(Root(Node(2, [10, 40], [place(4096), place(8192)]), False, 3))
    with pytest.raises(FormatError, match=rule):
        decode_root(damage(good), source="k/inode", offset=104)


def test_slots_behind_the_last_child_are_not_looked_at() -> None:
    data = bytearray(b"\xff" * 4096)
    encode_node_into(LEAF, memoryview(data))
    node = decode_node(bytes(data), level=1, first_key=10, limit=31, source="k", offset=0)
    assert node == LEAF


def test_what_does_not_fit_a_node_is_refused() -> None:
    capacity = node_capacity(4096)
    assert capacity == 255
    too_many = Node(1, list(range(256)), [DIRTY] * 256)
    with pytest.raises(ValueError, match="256"):
        encode_node_into(too_many, memoryview(bytearray(4096)))
    with pytest.raises(ValueError, match="index 6"):
        encode_root(Root(Node(1, [6], [ZERO]), True, 3))


@given(
    st.sampled_from(PointerFormat),
    st.integers(1, (1 << 30) - 1),
    st.integers(0, (1 << 14) - 1),
    st.integers(0, (1 << 18) - 1),
)
def test_every_place_goes_through_its_pointer(
    pointer_format: PointerFormat, checkpoint: int, part: int, unit: int
) -> None:
    expected = Place(checkpoint, part if pointer_format.parted else 0, unit * 4096)
    pointer = encode_place(expected, pointer_format, sequence=part * 16 + 3)
    assert decode_place(pointer, pointer_format) == expected
    assert pointer >> 62 == 1


@pytest.mark.parametrize("pointer", [HOLE, ZERO, DIRTY, 1, 1 << 62, 3 << 62, 1 << 63])
def test_what_names_no_place_is_not_decoded(pointer: int) -> None:
    with pytest.raises(ValueError, match="names no place"):
        decode_place(pointer, PointerFormat.PARTED)


@pytest.mark.parametrize(
    ("wrong", "pointer_format"),
    [
        (Place(0, 0, 0), PointerFormat.PARTED),
        (Place(1 << 30, 0, 0), PointerFormat.PARTED),
        (Place(1, 1 << 14, 0), PointerFormat.PARTED),
        (Place(1, 0, 1 << 30), PointerFormat.PARTED),
        (Place(1, 0, 4097), PointerFormat.STREAM),
        (Place(1, 1, 4096), PointerFormat.MICRO_GROUP),
        (Place(1, 1, 4096), PointerFormat.FLAT),
        (Place(1, 0, 1 << 32), PointerFormat.FLAT),
    ],
)
def test_a_place_that_has_no_pointer_is_refused(
    wrong: Place, pointer_format: PointerFormat
) -> None:
    with pytest.raises(ValueError):
        encode_place(wrong, pointer_format)
