"""Checkpoints of a container: its versions, newest first, and the one of a moment."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.history import ancestors, read_checkpoints
from hf_agent.hyperfile.keys import parse_object_key, part_key
from hf_agent.hyperfile.opening import (
    FoundCheckpoint,
    State,
    reach_state,
    read_checkpoint,
    read_part_header,
)
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["Checkpoint", "checkpoint_at", "list_checkpoints"]

_BRIDGED = 64
"""Checkpoints that may stand between one and its base before the base is taken for removed."""
_PARTS_AT_A_TIME = 8


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One version of a container."""

    number: int
    time: float
    """When it was written, by its writer's clock: the inode's ctime, in Unix seconds."""
    size: int
    """Length of the content in bytes."""
    changed_blocks: int
    """Data blocks that it wrote, over all of its parts."""
    changed_bytes: int
    """What these blocks take up."""


@dataclass(frozen=True, slots=True)
class _Objects:
    """What a listing says of the checkpoint objects."""

    numbers: array[int]
    """Of the checkpoints that may be there, ascending."""
    parts: dict[int, list[int]]
    """Parts above 0 of a checkpoint, where there are some."""


async def list_checkpoints(store: Store, key: str) -> AsyncIterator[Checkpoint]:
    """The versions of the container at `key`, newest first.

    Objects that no state was built on (of writers that lost, or that died) are left out, and so
    are checkpoints whose header is damaged. Raises `NoSuchContainer`, `FormatError`, and the
    store's errors.
    """
    state = await reach_state(store, key)
    objects = await _list_objects(store, state)
    numbers = objects.numbers
    async for found in _walk(store, state, numbers, from_newest=True, skip_damaged=True):
        yield await _describe(store, state, objects, found)


async def checkpoint_at(store: Store, key: str, time: float) -> Checkpoint | None:
    """The newest version that was written at `time` (Unix seconds) or before; None if none was.

    Looks at few checkpoints, and so takes it that the writers' clocks did not run backwards by
    more than lies between neighbours. Raises as `list_checkpoints`, and `ChecksumError` when it
    comes to a checkpoint whose header is damaged.
    """
    state = await reach_state(store, key)
    objects = await _list_objects(store, state)
    numbers = objects.numbers
    low, high = 0, len(numbers)
    while low < high:
        middle = (low + high) // 2
        # Numbers that are no checkpoints have no time: look further down, for the next that is.
        found = await _first(store, state, numbers[low : middle + 1])
        if found is not None and found.inode.ctime_ns > time * 1e9:
            high = bisect_left(numbers, found.header.checkpoint)
        else:
            low = middle + 1
    # Begin above it: which of its neighbours belong to the history shows from their descendants.
    begin = min(low + _BRIDGED, len(numbers))
    async for found in _walk(store, state, numbers[:begin], from_newest=begin == len(numbers)):
        if found.inode.ctime_ns <= time * 1e9:
            return await _describe(store, state, objects, found)
    return None


async def _list_objects(store: Store, state: State) -> _Objects:
    parted = state.inode.meta.pointer_format.parted
    numbers: set[int] = set()
    parts: dict[int, list[int]] = {}
    async for info in store.list(state.key + "/"):
        if not isinstance(info, ObjectInfo):
            continue
        name = parse_object_key(state.key, info.key)
        if name is None or name.checkpoint > state.inode.last_cno:
            continue
        if name.part == (0 if parted else None):
            numbers.add(name.checkpoint)
        elif parted and name.part:
            parts.setdefault(name.checkpoint, []).append(name.part)
    return _Objects(array("Q", sorted(numbers)), parts)


def _walk(
    store: Store,
    state: State,
    numbers: array[int],
    *,
    from_newest: bool,
    skip_damaged: bool = False,
) -> AsyncIterator[FoundCheckpoint]:
    checkpoints = read_checkpoints(
        *(store, state.key, numbers[::-1], state.inode.meta.pointer_format),
        skip_damaged=skip_damaged,
    )
    return ancestors(checkpoints, state.inode.last_cno if from_newest else None, bridge=_BRIDGED)


async def _first(store: Store, state: State, numbers: array[int]) -> FoundCheckpoint | None:
    """The newest good checkpoint among `numbers`."""
    pointer_format = state.inode.meta.pointer_format
    for number in reversed(numbers):
        try:
            return await read_checkpoint(store, state.key, number, pointer_format)
        except (FormatError, StoreNotFound):
            continue
    return None


async def _describe(
    store: Store, state: State, objects: _Objects, found: FoundCheckpoint
) -> Checkpoint:
    number, pointer_format = found.header.checkpoint, state.inode.meta.pointer_format

    async def blocks(part: int) -> int:
        name = part_key(state.key, number, part)
        try:
            header = await read_part_header(store, name, number, part, pointer_format)
        except (FormatError, StoreNotFound):
            return 0
        # A part of another base is somebody else's: a compaction's, or a loser's.
        of_this = header.checkpoint == number and header.base == found.header.base
        return header.data_blocks if of_this else 0

    parts = await map_concurrently(blocks, objects.parts.get(number, ()), limit=_PARTS_AT_A_TIME)
    changed_blocks = found.header.data_blocks + sum(parts)
    return Checkpoint(
        number=number,
        time=found.inode.ctime_ns / 1e9,
        size=found.inode.size,
        changed_blocks=changed_blocks,
        changed_bytes=changed_blocks << found.header.data_shift,
    )
