"""The block map of a state, every node of it, each once."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import NamedTuple

from hf_agent.hyperfile.check.objects import ObjectTable
from hf_agent.hyperfile.check.raw import ZERO_BLOCK, RawInode, place_of
from hf_agent.hyperfile.check.reading import Kept
from hf_agent.hyperfile.check.report import Report

__all__ = ["MapFacts", "TreeCheck"]

_NO_END = 1 << 64
_MOST_KNOWN = 100_000
"""Nodes that are known to have been walked, about 30 MiB; others are walked again where a further
state has them."""


class MapFacts(NamedTuple):
    """What a subtree holds."""

    entries: int
    last_index: int
    last_pointer: int


_NOT_WALKED = MapFacts(-1, -1, 0)


class TreeCheck:
    """Walks the maps of a container's states; what several of them share is walked once."""

    def __init__(self, table: ObjectTable, report: Report, *, format: int, meta_log2: int) -> None:
        self._table = table
        self._report = report
        self._format = format
        self._capacity = ((1 << meta_log2) - 8) // 16
        self._known: Kept[tuple[int, int, int], MapFacts] = Kept(_MOST_KNOWN, lambda facts: 1)
        """By level, first key and pointer; `_NOT_WALKED` of what is damaged."""

    async def check(self, inode: RawInode, source: str, root_at: int) -> MapFacts | None:
        """The map under an inode that stands in `source`; None when it cannot be walked."""
        root, expect = inode.root, self._report.expect
        flags, level, count, user = struct.unpack_from("<BBHI", root)
        rule = "the user data of the root is the pointer format"
        expect(user == self._format, source, root_at + 4, rule)
        if not flags & 1:
            pointers = struct.unpack_from("<6Q", root, 8)
            # The crate leaves level 0 behind when it empties a file.
            shape = flags == 0 and count == 0 and (level == 1 or (level == 0 and not any(pointers)))
            expect(shape, source, root_at, "a direct root has level 1 and no children")
            keys = [index for index, pointer in enumerate(pointers) if pointer]
            return await self._leaf(
                keys, [pointers[k] for k in keys], inode.last_cno, source, root_at + 8
            )
        if not expect(1 <= level <= 14, source, root_at + 1, "a map has at most 14 levels"):
            return None
        expect(flags == (3 if level == 1 else 1), source, root_at, "a root of level 1 is a leaf")
        if not expect(1 <= count <= 3, source, root_at + 2, "a B+tree root has 1 to 3 children"):
            return None
        keys = list(struct.unpack_from(f"<{count}Q", root, 8))
        values = list(struct.unpack_from(f"<{count}Q", root, 8 + 3 * 8))
        return await self._children(level, keys, values, _NO_END, inode.last_cno, source, root_at)

    async def _children(
        self,
        level: int,
        keys: list[int],
        values: list[int],
        end: int,
        number: int,
        source: str,
        at: int,
    ) -> MapFacts | None:
        ascend = all(left < right for left, right in pairwise(keys)) and keys[-1] < end
        if not self._report.expect(ascend, source, at, "keys ascend strictly, also across nodes"):
            return None
        if level == 1:
            return await self._leaf(keys, values, number, source, at)
        entries, last, whole = 0, None, True
        for position, (key, pointer) in enumerate(zip(keys, values, strict=True)):
            child_end = keys[position + 1] if position + 1 < len(keys) else end
            last = await self._node(level - 1, key, pointer, child_end, number, source, at)
            if last is None and not self._table.left_out:
                return None
            # What is left out says nothing of its neighbours: these are looked at all the same.
            whole = whole and last is not None
            entries += 0 if last is None else last.entries
        return None if last is None or not whole else last._replace(entries=entries)

    async def _node(
        self, level: int, key: int, pointer: int, end: int, number: int, source: str, at: int
    ) -> MapFacts | None:
        expect = self._report.expect
        known = self._known.get((level, key, pointer))
        if known is _NOT_WALKED:
            return None
        if known is not None:
            below = known.last_index < end
            expect(below, source, at, "keys ascend strictly, also across nodes")
            return known
        # What is damaged is looked at once, as well.
        self._known.put((level, key, pointer), _NOT_WALKED)
        loaded = await self._table.node(pointer)
        if isinstance(loaded, str):
            if loaded:
                self._report.add(source, at, loaded)
            return None
        found, node_at, node = loaded
        expect(found.number <= number, source, at, "a map refers to older objects, or its own")
        flags, found_level, count, user = struct.unpack_from("<BBHI", node.ljust(8, b"\0"))
        expect(user == 0, found.key, node_at + 4, "user data of a node below the root is 0")
        rule = "LEAF is set in leaves alone, and LARGE in roots alone"
        expect(flags == (2 if level == 1 else 0), found.key, node_at, rule)
        if not expect(found_level == level, found.key, node_at + 1, "levels descend by one"):
            return None
        fits = 1 <= count <= self._capacity and len(node) == self._capacity * 16 + 16
        fits = fits or (1 <= count <= self._capacity and len(node) >= 8 + 16 * self._capacity)
        if not expect(fits, found.key, node_at + 2, "no node is empty, or over its capacity"):
            return None
        keys = list(struct.unpack_from(f"<{count}Q", node, 8))
        values = list(struct.unpack_from(f"<{count}Q", node, 8 + 8 * self._capacity))
        rule = "a node's key in its parent is its own first key"
        if not expect(keys[0] == key, found.key, node_at + 8, rule):
            return None
        facts = await self._children(level, keys, values, end, found.number, found.key, node_at)
        if facts is not None:
            self._known.put((level, key, pointer), facts)
        return facts

    async def _leaf(
        self, keys: list[int], values: list[int], number: int, source: str, at: int
    ) -> MapFacts:
        named: set[str] = set()
        for index, pointer in zip(keys, values, strict=True):
            if pointer in (0, ZERO_BLOCK):
                continue
            rule = await self._table.data_slot(pointer, index)
            if not rule:
                place = place_of(pointer, self._format)
                assert place is not None
                if place.checkpoint > number:
                    rule = "a map refers to older objects, or its own"
            if rule and rule not in named:
                # The first of the node: one cause may have put all of them wrong.
                named.add(rule)
                self._report.add(source, at, f"{rule} (block {index})")
        if not keys:
            return MapFacts(0, -1, 0)
        return MapFacts(len(keys), keys[-1], values[-1])
