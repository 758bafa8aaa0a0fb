"""Keys of a container's objects."""

from __future__ import annotations

import re
from typing import NamedTuple

from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.pointers import Place

__all__ = [
    "INODE_SUFFIX",
    "ObjectName",
    "checkpoint_key",
    "inode_key",
    "parse_object_key",
    "part_key",
    "place_key",
    "plain_key",
]

INODE_SUFFIX = "/inode"
_NAME = re.compile(r"(?P<number>\d{10})(?:\.(?P<part>0|[1-9]\d{0,4}))?")


class ObjectName(NamedTuple):
    """What the last segment of an object's key says."""

    checkpoint: int
    part: int | None
    """None for the objects of formats 1 and 2, which have no parts."""


def inode_key(key: str) -> str:
    """Key of the inode of the container at `key`."""
    return key + INODE_SUFFIX


def plain_key(key: str, checkpoint: int) -> str:
    """Key of a checkpoint that is one object (formats 1 and 2)."""
    return f"{key}/{checkpoint:010d}"


def part_key(key: str, checkpoint: int, part: int) -> str:
    """Key of a part of a checkpoint (formats 3 and 4)."""
    return f"{key}/{checkpoint:010d}.{part}"


def checkpoint_key(key: str, checkpoint: int, pointer_format: PointerFormat) -> str:
    """Key of the object that is the checkpoint in this format."""
    if pointer_format.parted:
        return part_key(key, checkpoint, 0)
    return plain_key(key, checkpoint)


def place_key(key: str, place: Place, pointer_format: PointerFormat) -> str:
    """Key of the object that a pointer leads to."""
    if pointer_format.parted:
        return part_key(key, place.checkpoint, place.part)
    return plain_key(key, place.checkpoint)


def parse_object_key(key: str, object_key: str) -> ObjectName | None:
    """Checkpoint and part of an object of the container at `key`; None for any other object."""
    found = _NAME.fullmatch(object_key.removeprefix(key + "/"))
    if found is None or not object_key.startswith(key + "/"):
        return None
    part = found["part"]
    return ObjectName(int(found["number"]), None if part is None else int(part))
