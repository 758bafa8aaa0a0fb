"""Where a pointer leads, as far as the headers tell."""

from __future__ import annotations

from typing import NamedTuple

from hf_agent.hyperfile.pointers import decode_place
from hf_agent.hyperfile.verify.inventory import Inventory, object_code

__all__ = ["Target", "find_target"]


class Target(NamedTuple):
    """What a pointer leads to."""

    object: int
    """Its place in the inventory; -1 when there is none."""
    number: int
    """Of the node or data block in it; -1 when that is not known. Without an object: the code of
    the one that should be there."""
    problem: str
    """Why it cannot be; "" when nothing speaks against it."""


def find_target(inventory: Inventory, pointer: int, own: int, *, node: bool) -> Target:
    """What a pointer that stands in checkpoint `own` leads to: a map node, or a data block."""
    meta = inventory.meta
    place = decode_place(pointer, meta.pointer_format)
    at = inventory.find(place.checkpoint, place.part)
    if at < 0:
        return Target(-1, object_code(place.checkpoint, place.part), "")
    if place.checkpoint > own:
        return Target(at, -1, f"a pointer leads to a later checkpoint: {inventory.name(at)}")
    if not inventory.has_header(at):
        return Target(at, -1, "")  # that object has a finding of its own
    start = inventory.meta_offset(at) if node else inventory.data_offset(at)
    count = inventory.meta_blocks[at] if node else inventory.data_blocks[at]
    shift = meta.meta_shift if node else meta.data_shift
    number, rest = divmod(place.offset - start, 1 << shift)
    if rest or not 0 <= number < count:
        what = "map node" if node else "data block"
        where = f"byte {place.offset} of {inventory.name(at)}"
        text = f"a pointer leads to {where}, where no {what} begins"
        return Target(at, -1, text)
    return Target(at, number, "")
