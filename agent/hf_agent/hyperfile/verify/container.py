"""The verification of one container, from its inode to its last object."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from contextlib import aclosing
from heapq import nlargest
from itertools import chain

from hf_agent.hyperfile.check import MOST_OBJECTS
from hf_agent.hyperfile.concurrency import map_ahead
from hf_agent.hyperfile.errors import (
    FormatError,
    NoSuchCheckpoint,
    NoSuchContainer,
)
from hf_agent.hyperfile.inode import MAX_CHECKPOINT, Inode
from hf_agent.hyperfile.keys import inode_key, parse_object_key
from hf_agent.hyperfile.opening import State, inode_at_checkpoint, reach_state
from hf_agent.hyperfile.pointers import MAX_PART
from hf_agent.hyperfile.verify.affected import find_affected
from hf_agent.hyperfile.verify.headers import read_headers
from hf_agent.hyperfile.verify.inode_check import check_stored_inode, inode_problem
from hf_agent.hyperfile.verify.inventory import (
    Inventory,
    Listing,
    checkpoint_of_code,
    name_of_code,
)
from hf_agent.hyperfile.verify.map_check import MapCheck
from hf_agent.hyperfile.verify.object_scan import ObjectScan, scan_object
from hf_agent.hyperfile.verify.report import (
    Affected,
    Finding,
    Kind,
    Problem,
    Severity,
    VerifyReport,
)
from hf_agent.hyperfile.verify.structure import FoundDamage, broken_rules
from hf_agent.store.base import ObjectInfo, Store

__all__ = ["verify_container"]

_OBJECTS_AHEAD = 7
"""Objects that are read beside the one whose turn it is; each holds two windows of 1 MiB."""
_MAX_FINDINGS = 1000
_COMPACTION_METADATA = "hf-compaction"
_MAX_TRIED = 16
"""Checkpoints that are tried, newest first, when the inode itself is of no use."""


async def verify_container(
    store: Store,
    key: str,
    *,
    on_total: Callable[[int], None] = lambda nbytes: None,
    on_bytes: Callable[[int], None] = lambda nbytes: None,
    max_objects: int = MOST_OBJECTS,
) -> VerifyReport:
    """Read every object of the container at `key` and check all that can be checked.

    `on_total` is told how many bytes will be read, `on_bytes` how many have been, piece by piece.
    Checksums are checked of all objects; the rules of the format, which takes more memory, of the
    newest `max_objects`, and a note says what is left. Damage is in the report; raised are
    `NoSuchContainer`, and the store's errors.
    """
    return await _Verification(store, key, on_total, on_bytes, max_objects).run()


class _Verification:
    def __init__(
        self,
        store: Store,
        key: str,
        on_total: Callable[[int], None],
        on_bytes: Callable[[int], None],
        max_objects: int,
    ) -> None:
        self._max_objects = max_objects
        self._store = store
        self._key = key
        self._on_total = on_total
        self._on_bytes = on_bytes
        self._report = VerifyReport(key)
        self._problems: list[Problem] = []
        self._found = FoundDamage()
        self._doubtful: list[Problem] = []
        """Errors if some version needs their object, else notes."""

    async def run(self) -> VerifyReport:
        state = await self._reach()
        trusted = state is not None and await check_stored_inode(
            self._store, state, self._add, self._note_inode
        )
        plain, parts = await self._list()
        newest = await self._newest_inode(state, chain(plain.codes, parts.codes), trusted=trusted)
        if newest is None or newest.inline is not None:
            if newest is not None and trusted:
                await self._check_rules(None, (), newest=None)
            self._report.size = newest.size if newest is not None else 0
            self._refuse(plain, part_keys=False, text="no inode refers to it")
            self._refuse(parts, part_keys=True, text="no inode refers to it")
            return await self._finish(None, None)
        self._report.size, self._report.checkpoint = newest.size, newest.last_cno
        last_seen = state.last_number if state is not None else newest.last_cno
        parted = newest.meta.pointer_format.parted
        text = "an object of another pointer format"
        self._refuse(plain if parted else parts, part_keys=not parted, text=text)
        inventory = Inventory(self._key, newest.meta, parts if parted else plain)
        self._report.objects, self._report.nbytes = len(inventory), sum(inventory.sizes)
        self._on_total(self._report.nbytes)
        bad = await read_headers(self._store, inventory)
        self._report.versions = inventory.trace_history(newest.last_cno)
        checked = MapCheck(inventory, self._add)
        versions = await self._scan(inventory, checked)
        if newest.last_cno and newest.last_cno not in versions and state is not None and trusted:
            # Its checkpoint has no good header: what the inode itself says of the map.
            checked.check_version(
                state.inode_bytes,
                number=newest.last_cno,
                at=-1,
                key=inode_key(self._key),
                offset=0,
            )
        self._doubtful.extend(problem for problem, sure in bad.values() if not sure)
        for problem, sure in bad.values():
            if sure:
                self._add(problem)
        for problem in self._doubtful:
            if inventory.counts(problem.object):
                self._add(problem)
            else:
                self._note(problem.key, problem.what, f"no checkpoint object: {problem.text}")
        if state is not None and trusted and not state.taken_up:
            await self._check_rules(inventory, bad, newest=None)
        elif newest.last_cno in versions:
            # The stored inode is damaged, or does not know of that checkpoint yet.
            await self._check_rules(inventory, bad, newest=newest.last_cno)
        await self._name_strays(inventory, bad.keys(), last_seen)
        return await self._finish(inventory, newest)

    # -- what there is ------------------------------------------------------------------------

    async def _reach(self) -> State | None:
        """The state reached; None when the inode is none."""
        try:
            return await reach_state(self._store, self._key, checked=False)
        except FormatError as error:
            self._add(inode_problem(self._key, Kind.CONTENT, error.offset, error.rule))
            return None

    async def _list(self) -> tuple[Listing, Listing]:
        """Checkpoint objects below the key: those without, and those with, a part in their name."""
        plain, parts = Listing(), Listing()
        # What lies deeper belongs to other containers.
        async for info in self._store.list(self._key + "/", delimiter="/"):
            if not isinstance(info, ObjectInfo) or info.key == inode_key(self._key):
                continue
            name = parse_object_key(self._key, info.key)
            if name is None or name.checkpoint > MAX_CHECKPOINT or (name.part or 0) > MAX_PART:
                self._note(info.key, "object", "the name is none of this format")
            elif name.checkpoint == 0:
                self._note(info.key, "object", "there is no checkpoint 0")
            else:
                (plain if name.part is None else parts).add(name, info.size)
        return plain, parts

    def _refuse(self, listing: Listing, *, part_keys: bool, text: str) -> None:
        for code in listing.codes:
            self._note(name_of_code(self._key, code, parted=part_keys), "object", text)

    async def _newest_inode(
        self, state: State | None, codes: Iterable[int], *, trusted: bool
    ) -> Inode | None:
        """The inode reached; when that is damaged, the one of the newest good checkpoint."""
        if state is not None and trusted:
            return state.inode
        for number in nlargest(_MAX_TRIED, {checkpoint_of_code(code) for code in codes}):
            try:
                return await inode_at_checkpoint(self._store, self._key, number)
            except (FormatError, NoSuchCheckpoint):
                continue
        return state.inode if state is not None else None

    # -- the objects ----------------------------------------------------------------------------

    async def _scan(self, inventory: Inventory, checked: MapCheck) -> set[int]:
        """Read all objects with good headers; returns the numbers of the versions checked."""
        versions: set[int] = set()

        async def scan(at: int) -> ObjectScan:
            return await scan_object(self._store, inventory, at, self._on_bytes)

        readable = (at for at in range(len(inventory)) if inventory.has_header(at))
        group: list[ObjectScan] = []
        async with aclosing(map_ahead(scan, readable, ahead=_OBJECTS_AHEAD)) as scans:
            async for each in scans:
                if group and inventory.number(group[0].object) != inventory.number(each.object):
                    self._check_group(inventory, checked, group, versions)
                    group = []
                group.append(each)
        if group:
            self._check_group(inventory, checked, group, versions)
        return versions

    def _check_group(
        self,
        inventory: Inventory,
        checked: MapCheck,
        group: list[ObjectScan],
        versions: set[int],
    ) -> None:
        """All objects of one checkpoint."""
        for scan in group:
            self._report.with_checksums += scan.has_trailer
            for problem in scan.damage:
                self._add(problem)
            if len(self._doubtful) < _MAX_FINDINGS:
                self._doubtful.extend(scan.wrong_entries)
            if scan.foreign_bytes:
                text = f"{scan.foreign_bytes} bytes of unknown origin stand behind the data"
                self._note(inventory.name(scan.object), "object", text)
        checked.take(group)
        main = group[0]
        if not inventory.part(main.object) and inventory.in_history(main.object) and main.inode:
            number = inventory.number(main.object)
            versions.add(number)
            checked.check_version(
                main.inode,
                number=number,
                at=main.object,
                key=inventory.name(main.object),
                offset=main.inode_offset,
            )

    async def _check_rules(
        self, inventory: Inventory | None, bad: Iterable[int], *, newest: int | None
    ) -> None:
        """Every rule of the format, by code that shares nothing with what reads."""
        if not self._found.complete:
            text = "the rules of the format were not checked: too much is damaged to tell more"
            self._note_inode(text)
            return
        names = [inventory.name(at) for at in bad] if inventory is not None else []
        errors, notes = await broken_rules(
            *(self._store, self._key, inventory, self._found),
            without_header=names,
            newest=newest,
            max_objects=self._max_objects,
        )
        for problem in errors:
            self._add(problem)
        named = {(each.object, each.what) for each in self._report.notes}
        for note in notes:
            if note[:2] not in named:
                self._note(*note)

    async def _name_strays(
        self, inventory: Inventory, named: Container[int], last_seen: int
    ) -> None:
        """Objects that no version needs; those of commits made meanwhile are none."""
        try:
            now = (await reach_state(self._store, self._key, checked=False)).last_number
        except (FormatError, NoSuchContainer):
            now = last_seen
        for at in range(len(inventory)):
            number = inventory.number(at)
            if inventory.counts(at) or at in named or last_seen < number <= now:
                continue
            self._note(inventory.name(at), "object", "no version of the container needs it")

    # -- the report -----------------------------------------------------------------------------

    def _add(self, problem: Problem) -> None:
        self._report.error_count += 1
        self._found.add(problem)
        if len(self._problems) < _MAX_FINDINGS:
            self._problems.append(problem)

    def _note_inode(self, text: str) -> None:
        self._note(inode_key(self._key), "inode", text)

    def _note(self, key: str, what: str, text: str) -> None:
        self._report.note_count += 1
        if len(self._report.notes) < _MAX_FINDINGS:
            self._report.notes.append(Finding(Severity.NOTE, key, 0, what, text))

    async def _finish(self, inventory: Inventory | None, newest: Inode | None) -> VerifyReport:
        affected: list[Affected | None] = [None] * len(self._problems)
        if self._problems and inventory is not None:
            affected = await find_affected(self._store, inventory, self._problems, newest)
        errors = [
            Finding(Severity.ERROR, each.key, each.offset, each.what, each.text, found)
            for each, found in zip(self._problems, affected, strict=True)
        ]
        self._report.errors = sorted(errors, key=lambda each: (each.object, each.offset))
        return self._report
