"""Block pointers: 64-bit values that name a place in a checkpoint object, in four formats."""

from __future__ import annotations

from typing import NamedTuple

from hf_agent.hyperfile.meta_config import PointerFormat

__all__ = [
    "DIRTY",
    "HOLE",
    "MAX_OBJECT_BYTES",
    "MAX_PART",
    "ZERO",
    "Place",
    "decode_place",
    "encode_place",
    "is_data_pointer",
    "is_place",
]

HOLE = 0
"""Reads as zeros; also what is not in the map at all."""
ZERO = 0x3FFF_FFFF_0000_0000
"""An explicit block of zeros."""
DIRTY = 0x3FFF_FFFF_FFFF_FFFF
"""Has no place yet: in memory only."""

MAX_OBJECT_BYTES = 1 << 30
"""18 bits of an offset in units of 4096."""
MAX_PART = (1 << 14) - 1

_PLACE_TAG = 1 << 62
_LOW_BITS = 14
_LOW_MASK = (1 << _LOW_BITS) - 1
_OFFSET_UNIT_SHIFT = 12


class Place(NamedTuple):
    """Where a block lies."""

    checkpoint: int
    part: int
    """0 in formats 1 and 2."""
    offset: int
    """Bytes from the object's start."""


def is_place(pointer: int) -> bool:
    """Whether the pointer names a place in an object of some checkpoint."""
    return pointer >> 62 == 1 and pointer >> 32 != 1 << 30


def is_data_pointer(pointer: int) -> bool:
    """Whether the pointer may stand in a leaf on the store."""
    return pointer in (HOLE, ZERO) or is_place(pointer)


def decode_place(pointer: int, pointer_format: PointerFormat) -> Place:
    """The place that a pointer names. Raises `ValueError` for holes, zeros and other values."""
    if not is_place(pointer):
        raise ValueError(f"a block pointer that names no place pointer={pointer:#018x}")
    checkpoint, low = pointer >> 32 & 0x3FFF_FFFF, pointer & 0xFFFF_FFFF
    if pointer_format is PointerFormat.FLAT:
        return Place(checkpoint, 0, low)
    part = low & _LOW_MASK if pointer_format.parted else 0
    return Place(checkpoint, part, low >> _LOW_BITS << _OFFSET_UNIT_SHIFT)


def encode_place(place: Place, pointer_format: PointerFormat, *, sequence: int = 0) -> int:
    """The pointer to a place.

    `sequence` is the block's number in its object, meta blocks first, from 0 (format 2 keeps its
    high bits). Raises `ValueError` when the place cannot be expressed.
    """
    checkpoint, part, offset = place
    if not 1 <= checkpoint < 1 << 30:
        raise ValueError(f"checkpoint numbers go from 1 to 2^30-1 checkpoint={checkpoint}")
    base = _PLACE_TAG | checkpoint << 32
    if pointer_format is PointerFormat.FLAT:
        if part or not 0 <= offset < 1 << 32:
            raise ValueError(f"format 1 has no parts, and offsets below 2^32 {place=}")
        return base | offset
    if not 0 <= offset < MAX_OBJECT_BYTES or offset & (1 << _OFFSET_UNIT_SHIFT) - 1:
        raise ValueError(f"offsets are multiples of 4096 below 2^30 {place=}")
    low = part if pointer_format.parted else sequence >> 4
    if (part and not pointer_format.parted) or not 0 <= low <= _LOW_MASK:
        raise ValueError(f"a part, or a block's number, is out of range {place=} {sequence=}")
    return base | offset >> _OFFSET_UNIT_SHIFT << _LOW_BITS | low
