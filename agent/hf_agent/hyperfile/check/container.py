"""A container's states, from the stored inode back, and how they follow each other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from hf_agent.hyperfile.check.objects import CheckedObject, ObjectTable, inode_in_checkpoint
from hf_agent.hyperfile.check.raw import ZERO_BLOCK, RawInode, inode_names, read_inode
from hf_agent.hyperfile.check.report import (
    MOST_OBJECTS,
    NOTHING_KNOWN,
    KnownDamage,
    Report,
    Violation,
)
from hf_agent.hyperfile.check.tree import TreeCheck
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["check_structure"]

_CLOCK_TOLERANCE = 2.0
"""Seconds by which a part may seem younger than its part 0: stores round, and so do disks."""


async def check_structure(
    store: Store,
    key: str,
    *,
    created: bytes | None = None,
    bases_after: int | None = None,
    newest: int | None = None,
    known: KnownDamage = NOTHING_KNOWN,
    max_objects: int = MOST_OBJECTS,
) -> list[Violation]:
    """Every rule of the format that the container at `key` breaks, now and at its checkpoints.

    A base may be an inode that was changed without a checkpoint, and cannot be found; and parts
    may have been copied in another order than they were written: these are no certain violations.
    Where it is known that no inode was changed so since checkpoint `bases_after`, later bases have
    to be there; `created` is the inode that the container was created with, the base of the first.
    With `newest`, the check begins at that checkpoint instead of the stored inode: that one is
    damaged, or does not know of it yet. Of `known` damage nothing is said.

    Holds up to 150 MiB, and up to 2 KB for each object that is checked. Of a container with more
    than `max_objects` (at least 1) these are the newest ones, by whole checkpoints: what a map has
    in older ones is passed over, the history ends there, and the first entry of the list, with
    `unchecked`, says so. Raises the store's errors.
    """
    if max_objects < 1:
        raise ValueError(f"at least one object is checked {max_objects=}")
    return await _Check(store, key, created, bases_after, known, max_objects).run(newest)


class _Check:
    def __init__(
        self,
        store: Store,
        key: str,
        created: bytes | None,
        bases_after: int | None,
        known: KnownDamage,
        max_objects: int,
    ) -> None:
        self._max_objects = max_objects
        self._store = store
        self._key = key
        self._created = None if created is None else inode_names(created)
        self._bases_after = bases_after
        self._damage = known
        self._report = Report()

    async def run(self, newest: int | None) -> list[Violation]:
        await self._run(newest)
        return self._report.violations()

    async def _run(self, newest: int | None) -> None:
        report, attached = self._report, False
        if newest is None:
            name = f"{self._key}/inode"
            try:
                answer = await self._store.get(name)
            except StoreNotFound:
                report.add(name, 0, "a container has an inode")
                return
            stored, attached = answer.data, "hf-compaction" in answer.info.metadata
        else:
            stored, name = await inode_in_checkpoint(self._store, self._key, newest)
        inode = read_inode(stored)
        if isinstance(inode, str):
            report.add(name, 0, inode)
            return
        if inode.inline:
            return
        if self._store.supports_metadata and newest is None:
            rule = "the compaction flag stands together with its metadata"
            report.expect(bool(inode.flags & 8) <= attached, name, 60, rule)
        self._table = ObjectTable(
            *(self._store, self._key, report),
            format=inode.format,
            meta_log2=inode.meta_log2,
            data_log2=inode.data_log2,
            known=self._damage,
            max_objects=self._max_objects,
        )
        await self._table.load(upto=inode.last_cno)
        if self._table.left_out:
            report.take(self._left_out(name))
        self._tree = TreeCheck(self._table, report, format=inode.format, meta_log2=inode.meta_log2)
        if newest is None:
            await self._check_state(inode, name, 104)
        await self._check_history(stored, inode, name)

    def _left_out(self, name: str) -> Violation:
        rule = (
            f"objects of checkpoints up to {self._table.left_out} were not checked for rules: the "
            f"container has more than {self._max_objects} objects, the limit"
        )
        return Violation(name, 0, rule, certain=False, unchecked=True)

    async def _check_state(self, inode: RawInode, source: str, root_at: int) -> None:
        report = self._report
        facts = await self._tree.check(inode, source, root_at)
        if facts is None:
            return
        block = 1 << inode.data_log2
        rule = f"blocks is entries x block size / 512: {facts.entries} entries"
        counted = inode.old_layout or inode.blocks == facts.entries * block // 512
        report.expect(counted, source, root_at - 24, rule)
        last_block, inside = divmod(inode.size, block)
        ends = facts.last_index < last_block + bool(inside)
        report.expect(ends, source, root_at, "no block lies past the end of the file")
        if inside and facts.last_index == last_block and facts.last_pointer not in (0, ZERO_BLOCK):
            if await self._table.data_slot(facts.last_pointer, last_block):
                return
            zero = await self._table.zero_to_the_end(facts.last_pointer, inside)
            report.expect(zero, source, root_at, "bytes past the end of the file are zero")

    async def _check_history(self, stored: bytes, inode: RawInode, name: str) -> None:
        report, table, created = self._report, self._table, self._created
        number = inode.last_cno
        if number == 0:
            if created is not None:
                same = inode_names(stored) == created
                rule = "a container without checkpoints is as it was created"
                report.expect(same, name, 0, rule)
            return
        current = table.use(number, 0)
        if current is None and table.unknown(number, 0):
            current = self._next_lower(number)
        elif current is None:
            report.add(name, 96, "the checkpoint of the inode is there")
            return
        elif not inode.old_layout:
            # Size, owner and times may have been set without a checkpoint; the map may not.
            rule = "the inode is the one in the header of its checkpoint"
            mapped = (stored[44:48], stored[80:88], stored[96:]) == (
                *(current.inode[44:48], current.inode[80:88]),
                current.inode[96:],
            )
            if inode_names(stored) != inode_names(current.inode):
                report.add(name, 0, rule, certain=not mapped)
        bases = _bases(table.objects.values())
        while current is not None:
            table.use(current.number, 0)
            earlier = None
            if table.check_inode(current):
                state = read_inode(current.inode)
                assert not isinstance(state, str)
                inode_at = current.size - 256 + 40 if inode.format == 4 else 24
                await self._check_state(state, current.key, inode_at + 104)
                report.expect(
                    not state.flags & 8 or state.old_layout,
                    *(current.key, inode_at + 60),
                    "a checkpoint does not publish the compaction flag",
                )
                earlier = _earlier(current, bases)
                if earlier is None:
                    self._check_base(current, bases)
            current = earlier or self._next_lower(current.number)
        self._check_parts()

    def _check_base(self, current: CheckedObject, bases: dict[int, list[CheckedObject]]) -> None:
        """A base that is none of the earlier states that are there."""
        rule = "a base is the fingerprint of an earlier state"
        after, created = self._bases_after, self._created
        at = current.size - 256 + 32 if current.entries_at > current.meta_at else 16
        if current.base == 0 or (created is not None and current.base in created):
            return
        if self._table.left_out and current.number == self._table.checkpoints[0]:
            return
        if current.base in bases or (after is not None and current.number > after):
            self._report.add(current.key, at, rule)
        elif current.number != self._table.checkpoints[0] and not self._damage.objects:
            self._report.add(current.key, at, rule, certain=False)

    def _next_lower(self, number: int) -> CheckedObject | None:
        """The checkpoint before, where the base does not say which one it is."""
        numbers = self._table.checkpoints
        position = bisect_left(numbers, number)
        return self._table.objects[numbers[position - 1], 0] if position else None

    def _check_parts(self) -> None:
        """Part 0 is written after the others, as far as a store's clock shows: who copies a
        container object by object may do it in another order.

        After those that some state refers to: a writer who lost may have built on the same base,
        and left parts that are younger.
        """
        for each in self._table.objects.values():
            main = self._table.objects.get((each.number, 0))
            if each.part and each.counts and each.flags & 1 and main is not None:
                later = main.modified >= each.modified - _CLOCK_TOLERANCE
                if not later and each.base == main.base:
                    rule = "part 0 is written after every other part"
                    self._report.add(each.key, 0, rule, certain=False)


def _bases(objects: Iterable[CheckedObject]) -> dict[int, list[CheckedObject]]:
    """Checkpoints by the fingerprints that others may have them as base by."""
    found: dict[int, list[CheckedObject]] = {}
    for each in objects:
        if each.part == 0:
            for fingerprint in inode_names(each.inode):
                found.setdefault(fingerprint, []).append(each)
    return found


def _earlier(current: CheckedObject, bases: dict[int, list[CheckedObject]]) -> CheckedObject | None:
    older = [each for each in bases.get(current.base, ()) if each.number < current.number]
    return max(older, key=lambda each: each.number, default=None)
