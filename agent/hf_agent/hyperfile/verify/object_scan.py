"""One checkpoint object with a good header: its checksums, its entries, and its map nodes.

What its pointers lead to, in other objects, is the affair of `map_check`.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.hyperfile.block_checksums import BlockChecksums
from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.inode import INODE_BYTES
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.nodes import Node, decode_any_node
from hf_agent.hyperfile.pointers import Place, decode_place, is_place
from hf_agent.hyperfile.segment import (
    ENTRY,
    SEGMENT_HEADER_BYTES,
    decode_segment_header,
    summary_bytes,
)
from hf_agent.hyperfile.stream_object import STREAM_HEADER_BYTES
from hf_agent.hyperfile.trailer import Trailer, decode_trailer
from hf_agent.hyperfile.verify.inventory import Inventory
from hf_agent.hyperfile.verify.object_bytes import ObjectBytes
from hf_agent.hyperfile.verify.report import Kind, Problem
from hf_agent.hyperfile.verify.targets import find_target
from hf_agent.store.base import Store

__all__ = ["ObjectScan", "scan_object"]

_NO_INDEX = (1 << 64) - 1
"""In place of a file index: the slot is dead."""
_SEGMENT_INODE_AT = 24
_STREAM_INODE_AT = 40


class Leaf(NamedTuple):
    """What the rest of the map has to know of a leaf."""

    number: int
    """In its object."""
    first: int
    """Block index."""
    last: int


class Rows:
    """Rows of small numbers, in arrays; the first number of each is that of a leaf."""

    def __init__(self, columns: int) -> None:
        self._columns = tuple(array("Q") for _ in range(columns))

    def add(self, *row: int) -> None:
        """Add a row."""
        for column, number in zip(self._columns, row, strict=True):
            column.append(number)

    def without(self, leaves: set[int]) -> Rows:
        """The rows of other leaves."""
        kept = Rows(len(self._columns))
        for row in self:
            if row[0] not in leaves:
                kept.add(*row)
        return kept

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        return zip(*self._columns, strict=True)


@dataclass(slots=True)
class ObjectScan:
    """What one object holds."""

    object: int
    inode: bytes = b""
    """The inode in its header."""
    inode_offset: int = 0
    has_trailer: bool = False
    foreign_bytes: int = 0
    """Bytes behind the last data block that are no trailer."""
    indexes: array[int] = field(default_factory=lambda: array("Q"))
    """Which block of the file each data block is."""
    leaves: list[Leaf] = field(default_factory=list)
    inner_nodes: list[tuple[int, Node]] = field(default_factory=list)
    """Map nodes above the leaves, with their numbers in the object."""
    targets: Rows = field(default_factory=lambda: Rows(2))
    """Leaf, and an object that it points to."""
    missing: Rows = field(default_factory=lambda: Rows(2))
    """Leaf, and the code of an object that it points to and that is not there."""
    broken_nodes: list[Problem] = field(default_factory=list)
    """Nodes whose structure is wrong. That matters where somebody points to them."""
    wrong_entries: list[Problem] = field(default_factory=list)
    """The first of the entries that are not as they have to be. That matters likewise."""
    damage: list[Problem] = field(default_factory=list)
    """What does not match its checksum."""


async def scan_object(
    store: Store, inventory: Inventory, at: int, on_bytes: Callable[[int], None]
) -> ObjectScan:
    """Read object `at`, which has a good header, to its end. Raises the store's errors."""
    scan = ObjectScan(at)
    key = inventory.name(at)
    try:
        async with ObjectBytes(store, key, inventory.sizes[at], on_bytes) as source:
            await _Scanner(inventory, scan, source).run()
    except FormatError as error:
        text = error.problem if isinstance(error, ChecksumError) else error.rule
        what = error.what if isinstance(error, ChecksumError) else "object"
        scan.damage.append(Problem(at, Kind.OBJECT, 0, key, error.offset, what, text))
    return scan


class _Scanner:
    def __init__(self, inventory: Inventory, scan: ObjectScan, source: ObjectBytes) -> None:
        self._inventory = inventory
        self._scan = scan
        self._source = source
        self._at = scan.object
        self._key = inventory.name(scan.object)
        self._metas = inventory.meta_blocks[scan.object]
        self._datas = inventory.data_blocks[scan.object]

    async def run(self) -> None:
        if self._inventory.meta.pointer_format is PointerFormat.STREAM:
            await self._stream()
        else:
            await self._segment()

    async def _segment(self) -> None:
        scan, source, size = self._scan, self._source, self._inventory.sizes[self._at]
        summary = await source.take(self._inventory.meta_offset(self._at))
        scan.inode = summary[_SEGMENT_INODE_AT : _SEGMENT_INODE_AT + INODE_BYTES]
        scan.inode_offset = _SEGMENT_INODE_AT
        self._check_entries(summary, SEGMENT_HEADER_BYTES)
        meta_crcs = await self._nodes()
        data_crcs = await self._data()
        header = decode_segment_header(summary, source=self._key, object_size=size)
        behind = size - source.position
        trailer = decode_trailer(
            await source.take(behind),
            source=self._key,
            offset=header.data_end,
            checkpoint=header.checkpoint,
            meta_blocks=header.meta_blocks,
            data_blocks=header.data_blocks,
            declared=header.has_checksum,
        )
        if trailer is None:
            scan.foreign_bytes = behind
        else:
            scan.has_trailer = True
            self._compare(trailer, crc32c(summary), meta_crcs, data_crcs)

    async def _stream(self) -> None:
        await self._data()
        await self._nodes()
        offset = self._source.position
        self._check_entries(await self._source.take(ENTRY.size * self._datas), 0, offset)
        header = await self._source.take(STREAM_HEADER_BYTES)
        self._scan.inode = header[_STREAM_INODE_AT : _STREAM_INODE_AT + INODE_BYTES]
        self._scan.inode_offset = self._source.position - STREAM_HEADER_BYTES + _STREAM_INODE_AT

    # -- the parts ----------------------------------------------------------------------------

    def _check_entries(self, data: bytes, start: int, offset: int = 0) -> None:
        """The entries in `data` from `start` on; `data` begins at `offset` of the object."""
        inventory, at = self._inventory, self._at
        meta, data_offset = inventory.meta, inventory.data_offset(at)
        stream = meta.pointer_format is PointerFormat.STREAM
        place = Place(inventory.number(at), inventory.part(at), data_offset)
        end = start + ENTRY.size * self._datas
        indexes, last, wrong = self._scan.indexes, -1, ""
        for slot, (index, pointer) in enumerate(ENTRY.iter_unpack(data[start:end])):
            own = place._replace(offset=data_offset + (slot << meta.data_shift))
            if is_place(pointer) and decode_place(pointer, meta.pointer_format) == own:
                if index <= last:
                    wrong = wrong or f"entry {slot} does not ascend"
                last = index
                indexes.append(index)
            else:
                # Stream objects may have dead slots: blocks that were written again meanwhile.
                if not stream:
                    wrong = wrong or f"entry {slot} does not point to its data block"
                indexes.append(_NO_INDEX)
        if any(data[end:]):
            wrong = wrong or "the entries are not followed by zeros"
        if wrong:
            what = "entries"
            self._scan.wrong_entries.append(
                Problem(self._at, Kind.NOTHING, 0, self._key, offset + start, what, wrong)
            )

    async def _nodes(self) -> array[int]:
        crcs = array("I")
        for number in range(self._metas):
            offset = self._source.position
            block = await self._source.take(self._inventory.meta.meta_block_size)
            crcs.append(crc32c(block))
            try:
                node = decode_any_node(block, source=self._key, offset=offset)
            except FormatError as error:
                self._break_node(number, offset, error.rule)
            else:
                self._take_node(number, node, offset)
        return crcs

    def _take_node(self, number: int, node: Node, offset: int) -> None:
        scan = self._scan
        if node.level > 1:
            scan.inner_nodes.append((number, node))
            return
        # Leaves are looked through and dropped: there may be very many of them.
        own, problem = self._inventory.number(self._at), ""
        last = -1
        for pointer in node.values:
            if not is_place(pointer):
                continue
            target = find_target(self._inventory, pointer, own, node=False)
            problem = problem or target.problem
            if target.object < 0:
                scan.missing.add(number, target.number)
                continue
            if target.object != last:
                scan.targets.add(number, target.object)
                last = target.object
        if problem:
            self._break_node(number, offset, problem)
        else:
            scan.leaves.append(Leaf(number, node.keys[0], node.keys[-1]))

    def _break_node(self, number: int, offset: int, text: str) -> None:
        name = f"map node {number}"
        self._scan.broken_nodes.append(
            Problem(self._at, Kind.NODE, number, self._key, offset, name, text)
        )

    async def _data(self) -> array[int]:
        shift = self._inventory.meta.data_shift
        checksums, crcs = BlockChecksums(1 << shift), array("I")
        async for piece in self._source.pieces(self._datas << shift):
            crcs.extend(checksums.feed(piece))
        return crcs

    def _compare(
        self, trailer: Trailer, summary_crc: int, meta_crcs: array[int], data_crcs: array[int]
    ) -> None:
        inventory, at, text = self._inventory, self._at, "the checksum does not match"
        if summary_crc != trailer.summary_crc:
            # The header's own checksum holds.
            self._scan.wrong_entries.clear()
            self._damaged(Kind.NOTHING, 0, summary_bytes(0), "entries", text)
        for number, crc in enumerate(meta_crcs):
            if crc != trailer.meta_crcs[number]:
                offset = inventory.meta_offset(at) + (number << inventory.meta.meta_shift)
                self._damaged(Kind.NODE, number, offset, f"map node {number}", text)
        for number, crc in enumerate(data_crcs):
            if crc != trailer.data_crcs[number]:
                offset = inventory.data_offset(at) + (number << inventory.meta.data_shift)
                self._damaged(Kind.BLOCK, number, offset, f"data block {number}", text)
        self._forget_what_is_damaged()

    def _forget_what_is_damaged(self) -> None:
        """What has been named as damaged is not to be named for its structure as well."""
        scan = self._scan
        nodes = {each.number for each in scan.damage if each.kind is Kind.NODE}
        scan.leaves = [leaf for leaf in scan.leaves if leaf.number not in nodes]
        scan.inner_nodes = [pair for pair in scan.inner_nodes if pair[0] not in nodes]
        scan.broken_nodes = [each for each in scan.broken_nodes if each.number not in nodes]
        if nodes:
            scan.targets = scan.targets.without(nodes)
            scan.missing = scan.missing.without(nodes)
        if any(each.what == "entries" for each in scan.damage):
            scan.indexes = array("Q")

    def _damaged(self, kind: Kind, number: int, offset: int, what: str, text: str) -> None:
        index = None
        if kind is Kind.BLOCK and not any(each.what == "entries" for each in self._scan.damage):
            index = self._scan.indexes[number]
            index = None if index == _NO_INDEX else index
        self._scan.damage.append(
            Problem(self._at, kind, number, self._key, offset, what, text, index)
        )
