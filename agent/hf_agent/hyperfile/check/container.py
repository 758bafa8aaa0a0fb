"""A container's states, from the stored inode back, and how they follow each other."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from hf_agent.hyperfile.check.objects import CheckedObject, ObjectTable
from hf_agent.hyperfile.check.raw import ZERO_BLOCK, RawInode, inode_names, read_inode
from hf_agent.hyperfile.check.report import Report, Violation
from hf_agent.hyperfile.check.tree import TreeCheck
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["check_structure"]

_CLOCK_TOLERANCE = 2.0
"""Seconds by which a part may seem younger than its part 0: stores round, and so do disks."""


async def check_structure(
    store: Store, key: str, *, created: bytes | None = None, bases_after: int | None = None
) -> list[Violation]:
    """Every rule of the format that the container at `key` breaks, now and at its checkpoints.

    A base may be an inode that was changed without a checkpoint, and cannot be found. Where it is
    known that this was not done since checkpoint `bases_after`, later bases have to be there;
    `created` is the inode that the container was created with, the base of the first. Holds about
    ten bytes for each stored data block and a hundred for each map node. Raises the store's errors.
    """
    report = Report()
    name = f"{key}/inode"
    try:
        answer = await store.get(name)
    except StoreNotFound:
        report.add(name, 0, "a container has an inode")
        return report.violations()
    inode = read_inode(answer.data)
    if isinstance(inode, str):
        report.add(name, 0, inode)
        return report.violations()
    if inode.inline:
        return report.violations()
    if store.supports_metadata:
        attached = "hf-compaction" in answer.info.metadata
        rule = "the compaction flag stands together with its metadata"
        report.expect(bool(inode.flags & 8) <= attached, name, 60, rule)
    table = ObjectTable(
        *(store, key), format=inode.format, meta_log2=inode.meta_log2, data_log2=inode.data_log2
    )
    await table.load(report, upto=inode.last_cno)
    tree = TreeCheck(table, report, format=inode.format, meta_log2=inode.meta_log2)
    await _check_state(inode, name, 104, table, tree, report)
    known = None if created is None else inode_names(created)
    await _check_history(answer.data, inode, name, known, bases_after, table, tree, report)
    return report.violations()


async def _check_state(
    inode: RawInode, source: str, root_at: int, table: ObjectTable, tree: TreeCheck, report: Report
) -> None:
    facts = await tree.check(inode, source, root_at)
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
        if table.data_slot(facts.last_pointer, last_block)[0] is None:
            return
        tail = await table.data_tail(facts.last_pointer, inside)
        report.expect(not any(tail), source, root_at, "bytes past the end of the file are zero")


async def _check_history(
    stored: bytes,
    inode: RawInode,
    name: str,
    created: tuple[int, int] | None,
    bases_after: int | None,
    table: ObjectTable,
    tree: TreeCheck,
    report: Report,
) -> None:
    if inode.last_cno == 0:
        if created is not None:
            same = inode_names(stored) == created
            report.expect(same, name, 0, "a container without checkpoints is as it was created")
        return
    current = table.objects.get((inode.last_cno, 0))
    if current is None:
        report.add(name, 96, "the checkpoint of the inode is there")
        return
    if not inode.old_layout:
        # A size may have been set without a checkpoint; what the map says may not.
        same = inode_names(stored) == inode_names(current.inode)
        report.expect(same, name, 0, "the inode is the one in the header of its checkpoint")
    bases = _bases(table.objects.values())
    while current is not None:
        if not table.check_inode(current, report):
            return
        state = read_inode(current.inode)
        assert not isinstance(state, str)
        inode_at = current.size - 256 + 40 if inode.format == 4 else 24
        await _check_state(state, current.key, inode_at + 104, table, tree, report)
        _check_parts(current, table, report)
        report.expect(
            not state.flags & 8 or state.old_layout,
            *(current.key, inode_at + 60),
            "a checkpoint does not publish the compaction flag",
        )
        earlier = _earlier(current, bases)
        if earlier is None and bases_after is not None and current.number > bases_after:
            fits = current.base == 0 or (created is not None and current.base in created)
            rule = "a base is the fingerprint of an earlier state"
            report.expect(fits, current.key, 16, rule)
        current = earlier or _next_lower(current, table)


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


def _next_lower(current: CheckedObject, table: ObjectTable) -> CheckedObject | None:
    """The checkpoint before, where the base does not say which one it is."""
    position = bisect_left(table.checkpoints, current.number)
    return table.objects[table.checkpoints[position - 1], 0] if position else None


def _check_parts(current: CheckedObject, table: ObjectTable, report: Report) -> None:
    """Part 0 is written after the others, as far as a store's clock shows."""
    for each in table.parts.get(current.number, ()):
        if each.flags & 1 and each.base == current.base:
            later = current.modified >= each.modified - _CLOCK_TOLERANCE
            report.expect(later, each.key, 0, "part 0 is written after every other part")
