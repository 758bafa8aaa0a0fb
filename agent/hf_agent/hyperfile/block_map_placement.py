"""Placement: gives the dirty nodes and blocks of a map their places in one new object."""

from __future__ import annotations

from dataclasses import dataclass

from hf_agent.hyperfile.block_map import BlockMap
from hf_agent.hyperfile.meta_config import MetaConfig
from hf_agent.hyperfile.nodes import Node, Root, encode_node_into, encode_root
from hf_agent.hyperfile.pointers import DIRTY, Place, encode_place
from hf_agent.hyperfile.segment import ENTRY

__all__ = ["Placement", "place_dirty"]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the dirty part of a map went."""

    root: bytes
    """The 56 bytes for the inode."""
    rightmost: tuple[int, ...]
    """Pointers of the last of the new nodes of each level: an append comes by them again."""


def place_dirty(
    block_map: BlockMap,
    *,
    checkpoint: int,
    meta: MetaConfig,
    meta_offset: int,
    data_offset: int,
    entries: memoryview,
    nodes: memoryview,
) -> Placement:
    """Encode a map's changes for part 0 of `checkpoint`, without changing the map.

    `entries` takes 16 bytes per dirty data block, `nodes` one zeroed meta block per dirty node;
    both have exactly that length. Meta blocks begin at `meta_offset` of the object, data blocks,
    in ascending order of their indexes, at `data_offset`. May be called again, for another number.
    """
    levels = block_map.dirty_levels()
    meta_size, data_size = meta.meta_block_size, meta.data_block_size
    count = sum(map(len, levels))
    places: dict[int, int] = {}
    for sequence, (temporary, _) in enumerate(pair for level in levels for pair in level):
        place = Place(checkpoint, 0, meta_offset + sequence * meta_size)
        places[temporary] = encode_place(place, meta.pointer_format, sequence=sequence)
    placed_blocks = 0

    def placed(node: Node) -> Node:
        nonlocal placed_blocks
        if node.level > 1:
            return Node(node.level, node.keys, [places.get(v, v) for v in node.values])
        values = node.values.copy()
        for slot, value in enumerate(values):
            if value == DIRTY:
                place = Place(checkpoint, 0, data_offset + placed_blocks * data_size)
                sequence = count + placed_blocks
                values[slot] = encode_place(place, meta.pointer_format, sequence=sequence)
                ENTRY.pack_into(entries, placed_blocks * ENTRY.size, node.keys[slot], values[slot])
                placed_blocks += 1
        return Node(1, node.keys, values)

    for sequence, (_, node) in enumerate(pair for level in levels for pair in level):
        start = sequence * meta_size
        encode_node_into(placed(node), nodes[start : start + meta_size])
    root = Root(placed(block_map.root.node), block_map.root.direct, block_map.root.user_data)
    if placed_blocks * ENTRY.size != len(entries) or count * meta_size != len(nodes):
        raise ValueError(f"no room was made for {placed_blocks} blocks and {count} nodes")
    rightmost = tuple(places[level[-1][0]] for level in levels)
    return Placement(encode_root(root), rightmost)
