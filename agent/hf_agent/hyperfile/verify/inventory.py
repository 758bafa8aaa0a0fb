"""The checkpoint objects of a container: what a listing says of them, and what their headers do.

Kept in arrays, about 70 bytes an object: a container may have millions of checkpoints.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from hf_agent.hyperfile.history import Descent
from hf_agent.hyperfile.keys import ObjectName, part_key, plain_key
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat, align
from hf_agent.hyperfile.pointers import MAX_PART
from hf_agent.hyperfile.segment import ObjectHeader, summary_bytes

__all__ = ["Inventory", "Listing", "object_code"]

_PART_BITS = MAX_PART.bit_length()
_HEADER = 1
_IN_HISTORY = 2
_REFERENCED = 4
_BRIDGED = 64
"""Checkpoints that may stand between one and its base before the base is taken for removed."""


def object_code(number: int, part: int) -> int:
    """Checkpoint and part as one number, in the same order."""
    return number << _PART_BITS | part


def checkpoint_of_code(code: int) -> int:
    """The checkpoint of an object's code."""
    return code >> _PART_BITS


def name_of_code(key: str, code: int, *, parted: bool) -> str:
    """Key of an object of the container at `key`."""
    number, part = checkpoint_of_code(code), code & MAX_PART
    return part_key(key, number, part) if parted else plain_key(key, number)


class Listing:
    """Names and sizes of objects of one kind, in the order in which they were listed."""

    def __init__(self) -> None:
        self.codes = array("Q")
        self.sizes = array("Q")

    def add(self, name: ObjectName, size: int) -> None:
        """Take note of an object."""
        self.codes.append(object_code(name.checkpoint, name.part or 0))
        self.sizes.append(size)


class Inventory:
    """Objects by their place in it: ascending by checkpoint, then by part."""

    def __init__(self, key: str, meta: MetaConfig, listing: Listing) -> None:
        """`listing` has the objects that are named as the container's pointer format says."""
        self.key = key
        self.meta = meta
        order = sorted(range(len(listing.codes)), key=listing.codes.__getitem__)
        self._codes = array("Q", (listing.codes[at] for at in order))
        self.sizes = array("Q", (listing.sizes[at] for at in order))
        count = len(order)
        self.meta_blocks = array("I", bytes(4 * count))
        self.data_blocks = array("I", bytes(4 * count))
        self._bases = array("Q", bytes(8 * count))
        self._names = (array("Q", bytes(8 * count)), array("Q", bytes(8 * count)))
        self._flags = bytearray(count)
        self._last_found = 0

    def __len__(self) -> int:
        return len(self._codes)

    def number(self, at: int) -> int:
        """Checkpoint number of an object."""
        return checkpoint_of_code(self._codes[at])

    def part(self, at: int) -> int:
        """Part of its checkpoint; 0 in formats without parts."""
        return self._codes[at] & MAX_PART

    def name(self, at: int) -> str:
        """Key of an object."""
        return self.name_of(self._codes[at])

    def name_of(self, code: int) -> str:
        """Key of the object of that checkpoint and part, whether it is there or not."""
        return name_of_code(self.key, code, parted=self.meta.pointer_format.parted)

    def find(self, number: int, part: int) -> int:
        """Which object that is; -1 when it is not there."""
        code = object_code(number, part)
        # Pointers that stand side by side mostly lead to one object, or to the next one.
        at = self._last_found
        if at >= len(self._codes) or self._codes[at] != code:
            at = bisect_left(self._codes, code)
            if at == len(self._codes) or self._codes[at] != code:
                return -1
            self._last_found = at
        return at

    def checkpoints(self) -> Iterator[range]:
        """The objects of each checkpoint, in ascending order of their numbers."""
        start = 0
        for at in range(1, len(self) + 1):
            if at == len(self) or self.number(at) != self.number(start):
                yield range(start, at)
                start = at

    def set_header(self, at: int, header: ObjectHeader, names: tuple[int, int]) -> None:
        """Take note of a good header; `names` are the fingerprints of its inode."""
        self._flags[at] |= _HEADER
        self.meta_blocks[at] = header.meta_blocks
        self.data_blocks[at] = header.data_blocks
        self._bases[at] = header.base
        self._names[0][at], self._names[1][at] = names

    def has_header(self, at: int) -> bool:
        """Whether an object has a good header."""
        return bool(self._flags[at] & _HEADER)

    def meta_offset(self, at: int) -> int:
        """Where the meta blocks of an object with a good header begin, in bytes."""
        if self.meta.pointer_format is PointerFormat.STREAM:
            return self.data_blocks[at] << self.meta.data_shift
        return align(summary_bytes(self.data_blocks[at]))

    def data_offset(self, at: int) -> int:
        """Where its data blocks begin."""
        if self.meta.pointer_format is PointerFormat.STREAM:
            return 0
        return self.meta_offset(at) + (self.meta_blocks[at] << self.meta.meta_shift)

    # -- which of them count --------------------------------------------------------------------

    def trace_history(self, newest: int) -> int:
        """Find the checkpoints that `newest` was built on; returns how many there are."""
        descent: Descent[int] = Descent(newest, bridge=_BRIDGED)
        found = 0
        for at in range(len(self) - 1, -1, -1):
            if self.part(at) or not self.has_header(at) or self.number(at) > newest:
                continue
            names = frozenset((self._names[0][at], self._names[1][at]))
            for each in descent.offer(at, self.number(at), self._bases[at], names):
                found += self._take_into_history(each)
        for each in descent.end():
            found += self._take_into_history(each)
        return found

    def _take_into_history(self, main: int) -> int:
        self._flags[main] |= _IN_HISTORY
        at = main + 1
        # A part of another base is a compactor's, or that of a writer who lost.
        while at < len(self) and self.number(at) == self.number(main):
            if self.has_header(at) and self._bases[at] == self._bases[main]:
                self._flags[at] |= _IN_HISTORY
            at += 1
        return 1

    def in_history(self, at: int) -> bool:
        """Whether an object belongs to a checkpoint that the current state was built on."""
        return bool(self._flags[at] & _IN_HISTORY)

    def refer_to(self, at: int) -> None:
        """Take note that something that counts points to an object."""
        self._flags[at] |= _REFERENCED

    def counts(self, at: int) -> bool:
        """Whether some version of the container needs an object."""
        return bool(self._flags[at] & (_IN_HISTORY | _REFERENCED))
