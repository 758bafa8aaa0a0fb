"""The block map of one state, for looking things up: nodes are read as needed, and kept decoded.

A view never changes. Nodes never change either, so all views of a container share them.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import NamedTuple

from hf_agent.hyperfile.bounded_cache import BoundedCache
from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.file.ranges import END
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.keys import place_key
from hf_agent.hyperfile.meta_config import MetaConfig
from hf_agent.hyperfile.nodes import decode_node, decode_root
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.hyperfile.pointers import decode_place

__all__ = ["Leaf", "MapNode", "MapNodes", "MapView"]

_NODE_COST = 300
"""Bytes that a decoded node takes beside its keys and values."""


class MapNode(NamedTuple):
    """Keys (block indexes, ascending) and values (pointers) of a node; level 1 is a leaf."""

    level: int
    keys: array[int]
    values: array[int]


class Leaf(NamedTuple):
    """The entries of one leaf, and how far they tell."""

    keys: array[int]
    values: array[int]
    end: int
    """The first index that another leaf is asked for; `END` for the last leaf."""


class MapNodes:
    """Map nodes of one container by their pointers, decoded, within a bound of memory."""

    def __init__(
        self, objects: CheckpointObjects, meta: MetaConfig, *, key: str, cache_bytes: int
    ) -> None:
        self._objects = objects
        self._meta = meta
        self._key = key
        self._cache: BoundedCache[int, MapNode] = BoundedCache(cache_bytes)

    @property
    def cached_bytes(self) -> int:
        """What the nodes kept take up."""
        return self._cache.cost

    async def load(self, pointer: int, *, level: int, first_key: int, limit: int) -> MapNode:
        """The node that `pointer` leads to. The rest is what its parent says of it: its level,
        its first key, and the first index that is not below it any more.

        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        node = self._cache.get(pointer)
        if node is not None and self._fits(node, level, first_key, limit):
            return node
        data = await self._objects.load_node(pointer)
        place = decode_place(pointer, self._meta.pointer_format)
        source = place_key(self._key, place, self._meta.pointer_format)
        try:
            decoded = decode_node(
                *(data,),
                level=level,
                first_key=first_key,
                limit=limit,
                source=source,
                offset=place.offset,
            )
        except IndexError as error:  # a meta block that is shorter than its count says
            rule = "a map node ends early"
            raise FormatError(rule, object=source, offset=place.offset) from error
        node = MapNode(decoded.level, array("Q", decoded.keys), array("Q", decoded.values))
        self.keep(pointer, node)
        return node

    def keep(self, pointer: int, node: MapNode) -> None:
        """Remember a node that was read, or written just now."""
        self._cache.put(pointer, node, _NODE_COST + 16 * len(node.keys))

    @staticmethod
    def _fits(node: MapNode, level: int, first_key: int, limit: int) -> bool:
        # Of a damaged container two parents may lead to one node.
        return node.level == level and node.keys[0] == first_key and node.keys[-1] < limit


class MapView:
    """One state's map."""

    def __init__(self, inode: Inode, nodes: MapNodes, *, key: str) -> None:
        """Raises `FormatError` for a damaged root."""
        root = decode_root(inode.root, source=f"{key}/inode", offset=104)
        self.root = MapNode(
            root.node.level, array("Q", root.node.keys), array("Q", root.node.values)
        )
        self.direct = root.direct
        self.user_data = root.user_data
        self.nodes = nodes
        self.entries = inode.blocks * 512 // inode.meta.data_block_size
        """Entries of the whole map, as the inode counts them."""

    async def leaf(self, index: int) -> Leaf:
        """The leaf that has the entry of `index`, or would have it.

        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        node, end = self.root, END
        while node.level > 1:
            slot = max(bisect_right(node.keys, index) - 1, 0)
            if slot + 1 < len(node.keys):
                end = node.keys[slot + 1]
            node = await self.nodes.load(
                node.values[slot], level=node.level - 1, first_key=node.keys[slot], limit=end
            )
        return Leaf(node.keys, node.values, end)

    async def lookup(self, first: int, count: int) -> array[int]:
        """Pointers of the blocks `[first, first + count)`; `HOLE` where there is no entry."""
        found = array("Q", bytes(8 * count))
        at, end = first, first + count
        while at < end:
            leaf = await self.leaf(at)
            keys, values = leaf.keys, leaf.values
            low, high = bisect_left(keys, at), bisect_left(keys, end)
            if high - low and keys[high - 1] - keys[low] == high - low - 1:
                start = keys[low] - first  # neighbours, as in most files
                found[start : start + high - low] = values[low:high]
            else:
                for slot in range(low, high):
                    found[keys[slot] - first] = values[slot]
            at = leaf.end
        return found
