"""The block map of every version: each node is checked once, whatever versions share it.

What a node says is compared with what is known of its children: their level, their first and last
key, without which nothing below them can be read. That is kept for every node (17 bytes), in
arrays; children are scanned before their parents, since a checkpoint points to itself and to
older ones only. What the map says as a whole is the affair of the structure check.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.inode import decode_inode
from hf_agent.hyperfile.nodes import Node, decode_root
from hf_agent.hyperfile.pointers import is_place
from hf_agent.hyperfile.verify.inventory import Inventory
from hf_agent.hyperfile.verify.object_scan import ObjectScan
from hf_agent.hyperfile.verify.report import Kind, Problem
from hf_agent.hyperfile.verify.targets import find_target

__all__ = ["MapCheck"]

_UNKNOWN = 0
"""Level of a node that was not read, is damaged, or has been reported already."""
_MAX_PENDING = 100_000
"""Problems kept of nodes that nothing points to so far."""


class MapCheck:
    """Takes the scans of one checkpoint after the other, in ascending order."""

    def __init__(self, inventory: Inventory, report: Callable[[Problem], None]) -> None:
        self._inventory = inventory
        self._report = report
        bases, total = array("Q"), 0
        for blocks in inventory.meta_blocks:
            bases.append(total)
            total += blocks
        self._bases = bases
        self._levels = bytearray(total)
        self._first = array("Q", bytes(8 * total))
        self._last = array("Q", bytes(8 * total))
        self._pending: dict[int, list[Problem]] = {}
        self._missing: set[int] = set()

    # -- the objects of a checkpoint ----------------------------------------------------------

    def take(self, scans: Iterable[ObjectScan]) -> None:
        """Check the map nodes of one checkpoint: those of all of its objects together."""
        scans = list(scans)
        for scan in scans:
            for problem in scan.broken_nodes:
                self._hold(scan.object, problem.number, [problem])
            for leaf in scan.leaves:
                self._know(scan.object, leaf.number, 1, leaf.first, leaf.last)
            if self._inventory.counts(scan.object):
                for _, target in scan.targets:
                    self._inventory.refer_to(target)
                for _, code in scan.missing:
                    self._report_missing(code)
        inner = [(node.level, scan.object, number, node) for scan in scans
                 for number, node in scan.inner_nodes]  # fmt: skip
        for _, at, number, node in sorted(inner, key=lambda each: each[0]):
            self._take_inner(at, number, node)

    def _take_inner(self, at: int, number: int, node: Node) -> None:
        problems, known = self._check_children(at, node, self._inventory.number(at))
        own = [self._node_problem(at, number, text) for text in problems.texts]
        if own or problems.inherited:
            if self._inventory.counts(at):
                self._report_all([*own, *problems.inherited])
            else:
                self._hold(at, number, [*own, *problems.inherited])
        elif known:
            last = self._last[self._node_at(node.values[-1], self._inventory.number(at))]
            self._know(at, number, node.level, node.keys[0], last)

    # -- the versions -------------------------------------------------------------------------

    def check_version(self, data: bytes, *, number: int, at: int, key: str, offset: int) -> None:
        """Check the inode of a version: `data`, which stands at `offset` of the object `key`,
        number `at` of the inventory."""

        def problem(text: str, where: int = 0) -> None:
            what = "inode" if at < 0 else "header"
            self._report(Problem(at, Kind.CONTENT, number, key, offset + where, what, text))

        try:
            inode = decode_inode(data, source=key, offset=offset)
            if inode.inline is not None:
                raise FormatError("a checkpoint holds an inline inode", object=key, offset=offset)
            root = decode_root(inode.root, source=key, offset=offset + 104)
        except FormatError as error:
            problem(error.rule, error.offset - offset)
            return
        if inode.last_cno != number:
            problem(f"an inode of checkpoint {inode.last_cno} stands in checkpoint {number}", 96)
        if inode.meta != self._inventory.meta:
            problem("an inode has another meta config than the container", 44)
            return
        problems, _ = self._check_children(at, root.node, number)
        self._report_all(problems.inherited)
        for text in problems.texts:
            problem(text, 104)

    # -- nodes and their children ---------------------------------------------------------------

    def _check_children(self, at: int, node: Node, own: int) -> tuple[_Problems, bool]:
        """What is wrong with the children of a node, and whether all of them are known."""
        problems, known = _Problems(), True
        needed = at < 0 or self._inventory.counts(at)
        limits = [*node.keys[1:], 1 << 64]
        for key, limit, pointer in zip(node.keys, limits, node.values, strict=False):
            if node.level == 1 and not is_place(pointer):
                continue
            target = find_target(self._inventory, pointer, own, node=node.level > 1)
            if needed and target.object >= 0:
                self._inventory.refer_to(target.object)
            if target.problem:
                problems.texts.append(target.problem)
            elif target.object < 0:
                if needed:
                    self._report_missing(target.number)
                known = False
            elif target.number < 0:
                known = False
            elif node.level > 1:
                child = self._bases[target.object] + target.number
                held = self._pending.get(child)
                if held is not None:
                    problems.inherited.extend(held)
                    if needed:
                        del self._pending[child]
                elif self._levels[child] == _UNKNOWN:
                    known = False
                elif text := self._contradiction(child, node.level - 1, key, limit):
                    problems.texts.append(text)
        return problems, known

    def _contradiction(self, child: int, level: int, key: int, limit: int) -> str:
        if self._levels[child] != level:
            return f"a child has level {self._levels[child]} where {level} belongs"
        if self._first[child] != key:
            return f"a child's first key {self._first[child]} is not its key {key} in its parent"
        if self._last[child] >= limit:
            return f"a child's last key {self._last[child]} is not below the next child's {limit}"
        return ""

    def _node_at(self, pointer: int, own: int) -> int:
        target = find_target(self._inventory, pointer, own, node=True)
        return self._bases[target.object] + target.number

    def _know(self, at: int, number: int, level: int, first: int, last: int) -> None:
        node = self._bases[at] + number
        if node not in self._pending:
            self._levels[node], self._first[node] = level, first
            self._last[node] = last

    def _hold(self, at: int, number: int, problems: list[Problem]) -> None:
        """Keep problems until something that counts points to the node."""
        node = self._bases[at] + number
        self._levels[node] = _UNKNOWN
        if len(self._pending) < _MAX_PENDING:
            self._pending.setdefault(node, []).extend(problems)

    def _report_missing(self, code: int) -> None:
        if code not in self._missing:
            self._missing.add(code)
            name, text = self._inventory.name_of(code), "an object that is needed is not there"
            self._report(Problem(-1, Kind.OBJECT, code, name, 0, "object", text))

    def _report_all(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self._report(problem)

    def _node_problem(self, at: int, number: int, text: str) -> Problem:
        inventory = self._inventory
        offset = inventory.meta_offset(at) + (number << inventory.meta.meta_shift)
        name = f"map node {number}"
        return Problem(at, Kind.NODE, number, inventory.name(at), offset, name, text)


class _Problems:
    def __init__(self) -> None:
        self.texts: list[str] = []
        """What is wrong between a node and its children."""
        self.inherited: list[Problem] = []
        """What was held of the children."""
