"""Which bytes of the content cannot be read because of damage.

The map of the newest version is walked once, and, for damage that it does not come to, the map of
the version that wrote the object.
"""

from __future__ import annotations

from collections.abc import Sequence

from hf_agent.hyperfile.errors import FormatError, NoSuchCheckpoint
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.nodes import Node, decode_node, decode_root
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.hyperfile.opening import inode_at_checkpoint
from hf_agent.hyperfile.pointers import is_place
from hf_agent.hyperfile.verify.inventory import Inventory
from hf_agent.hyperfile.verify.report import Affected, Kind, Problem
from hf_agent.hyperfile.verify.targets import find_target
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["find_affected"]

_MAX_RANGES = 16
"""Ranges that are named of each finding."""
_MAX_VERSIONS = 8
"""Older versions whose maps are walked."""


async def find_affected(
    store: Store, inventory: Inventory, problems: Sequence[Problem], newest: Inode | None
) -> list[Affected | None]:
    """What each of `problems` makes unreadable: of the content that `newest` describes, else of
    an older version's; None where that is nothing, or is not known. Raises the store's errors."""
    search = _Search(store, inventory, problems)
    if newest is not None:
        await search.walk(newest, None)
    for number in search.open_checkpoints()[:_MAX_VERSIONS]:
        try:
            inode = await inode_at_checkpoint(store, inventory.key, number, checked=False)
        except (FormatError, NoSuchCheckpoint, StoreNotFound):
            continue
        if inode.meta == inventory.meta:
            await search.walk(inode, number)
    return search.result()


def _spot(problem: Problem) -> int:
    return 0 if problem.kind is Kind.OBJECT and problem.object >= 0 else problem.number


class _Ranges:
    """Block ranges in ascending order, neighbours joined."""

    def __init__(self) -> None:
        self.first: list[tuple[int, int]] = []
        self.blocks = 0
        self.end = 0

    def add(self, start: int, end: int) -> None:
        self.blocks += end - start
        if self.first and self.first[-1][1] == start:
            self.first[-1] = self.first[-1][0], end
        elif len(self.first) < _MAX_RANGES:
            self.first.append((start, end))


class _Search:
    def __init__(self, store: Store, inventory: Inventory, problems: Sequence[Problem]) -> None:
        self._store = store
        self._inventory = inventory
        self._problems = problems
        self._found: list[Affected | None] = [None] * len(problems)
        self._spots: dict[tuple[int, Kind], dict[int, list[int]]] = {}
        for at, problem in enumerate(problems):
            spots = self._spots.setdefault((problem.object, problem.kind), {})
            spots.setdefault(_spot(problem), []).append(at)

    def open_checkpoints(self) -> list[int]:
        """Checkpoints whose damage the walks so far did not come to."""
        numbers = {
            self._inventory.number(problem.object)
            for problem, found in zip(self._problems, self._found, strict=True)
            if found is None
            and problem.object >= 0
            and problem.kind in (Kind.OBJECT, Kind.NODE, Kind.BLOCK)
        }
        return sorted(numbers, reverse=True)

    def result(self) -> list[Affected | None]:
        """What was found, in the order of the problems."""
        for at, problem in enumerate(self._problems):
            if self._found[at] is None and problem.block_index is not None:
                # No map that can be read leads there: what the entries of its object say.
                shift = self._inventory.meta.data_shift
                start, end = problem.block_index << shift, (problem.block_index + 1) << shift
                number = self._inventory.number(problem.object)
                self._found[at] = Affected(number, ((start, end),), end - start)
        return self._found

    async def walk(self, inode: Inode, checkpoint: int | None) -> None:
        """Look for what no walk has found yet in the map of a version."""
        if inode.inline is not None:
            return
        ranges: dict[int, _Ranges] = {}
        walk = _Walk(self._store, self._inventory, self._spots, ranges, inode)
        if checkpoint is None:
            for at, problem in enumerate(self._problems):
                if problem.kind is Kind.CONTENT and problem.object < 0:
                    ranges.setdefault(at, _Ranges()).add(0, walk.end)
        try:
            root = decode_root(inode.root, source=self._inventory.key)
        except FormatError:
            pass
        else:
            await walk.node(root.node, walk.end)
        shift = inode.meta.data_shift
        for at, found in ranges.items():
            if self._found[at] is None:
                pairs = [(a << shift, min(b << shift, inode.size)) for a, b in found.first]
                last = max((end for _, end in pairs), default=0)
                nbytes = (found.blocks << shift) - (-inode.size % (1 << shift)
                                                    if last == inode.size else 0)  # fmt: skip
                self._found[at] = Affected(checkpoint, tuple(pairs), nbytes)


class _Walk:
    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        spots: dict[tuple[int, Kind], dict[int, list[int]]],
        ranges: dict[int, _Ranges],
        inode: Inode,
    ) -> None:
        self._inventory = inventory
        self._spots = spots
        self._ranges = ranges
        self._own = inode.last_cno
        self._objects = CheckpointObjects(store, inventory.key, inode.meta, checked=False)
        self.end = -(-inode.size >> inode.meta.data_shift)

    async def node(self, node: Node, limit: int) -> None:
        """Go down from a node whose keys are below `limit`."""
        ends = [*node.keys[1:], limit]
        for key, end, pointer in zip(node.keys, ends, node.values, strict=False):
            if node.level == 1:
                if is_place(pointer):
                    self._touch(pointer, Kind.BLOCK, key, key + 1)
                continue
            # Below a damaged node nothing can be read.
            if self._touch(pointer, Kind.NODE, key, min(end, self.end)):
                continue
            try:
                child = decode_node(
                    await self._objects.load_node(pointer),
                    level=node.level - 1,
                    first_key=key,
                    limit=1 << 64,
                    source=self._inventory.key,
                    offset=0,
                )
            except FormatError:
                continue
            await self.node(child, end)

    def _touch(self, pointer: int, kind: Kind, start: int, end: int) -> bool:
        target = find_target(self._inventory, pointer, self._own, node=kind is Kind.NODE)
        missing = target.number if target.object < 0 else 0
        whole = self._spots.get((target.object, Kind.OBJECT), {}).get(missing, ())
        single = self._spots.get((target.object, kind), {}).get(target.number, ())
        for at in (*whole, *single):
            self._ranges.setdefault(at, _Ranges()).add(start, end)
        return bool(whole or single)
