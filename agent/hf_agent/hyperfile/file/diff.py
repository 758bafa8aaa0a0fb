"""Which bytes differ between two states of a container, found by their maps alone.

Both maps are walked side by side. A node that both refer to is skipped with all that is below it:
so the cost goes with the difference, not with the size of the file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import NamedTuple

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.map_view import MapNode, MapView
from hf_agent.hyperfile.file.options import ByteRange, FileOptions
from hf_agent.hyperfile.file.ranges import END, RangeSet
from hf_agent.hyperfile.file.states import content_at_checkpoint, content_now, content_of
from hf_agent.hyperfile.inode import empty_inode
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.objects import DEFAULT_CACHE_BYTES
from hf_agent.hyperfile.pointers import HOLE, ZERO
from hf_agent.hyperfile.stale import telling_stale
from hf_agent.store.base import Store

__all__ = ["changed_blocks", "diff"]


async def diff(
    store: Store,
    key: str,
    a: int,
    b: int | None = None,
    *,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> list[ByteRange]:
    """Ranges that may differ between the checkpoints `a` and `b`, ascending, apart from each other.

    0 stands for the empty file before the first checkpoint, None for the newest state. A range is
    made of whole blocks, cut at the end of the longer file; bytes that only one of the files has
    are in it. All other bytes are the same. A block that was written anew with the bytes that it
    had before counts as different.

    Raises `NoSuchContainer`, `NoSuchCheckpoint`, `StaleVersion` when a checkpoint (or what the
    newest state was) is removed meanwhile, `ChecksumError`, `FormatError`, and the store's errors.
    """

    options = FileOptions(cache_bytes=cache_bytes)

    async def content(number: int | None) -> Content:
        if number is None:
            return await content_now(store, key, options=options)
        if number == 0:
            newest = await content_now(store, key, options=options)
            inode = empty_inode(newest.inode.meta, 0, uid=0, gid=0, mode=0)
            return content_of(store, key, inode, sources=None, options=options)
        return await content_at_checkpoint(store, key, number, options=options)

    old, new = await content(a), await content(b)
    meta = new.inode.meta
    if old.map is None or new.map is None or old.inode.meta != meta:
        rule = "checkpoints of one container have the same block sizes and a map each"
        raise FormatError(rule, object=inode_key(key), offset=44)
    changed, end = RangeSet(), max(old.size, new.size)
    async with AsyncExitStack() as stack:
        for number, state in ((a, old), (b, new)):
            if number != 0:
                told = telling_stale(store, key, state.inode, pinned=number is not None)
                await stack.enter_async_context(told)
        async for index in changed_blocks(old.map, new.map):
            start = index * meta.data_block_size
            changed.add(start, min(start + meta.data_block_size, end))
    changed.add(min(old.size, new.size), end)
    return [ByteRange(first, last) for first, last in changed]


async def changed_blocks(old: MapView, new: MapView) -> AsyncIterator[int]:
    """Indexes of the blocks whose pointers differ, ascending; a hole and an explicit zero block
    are the same. Raises `ChecksumError`, `FormatError`, and the store's errors."""
    left, right = _Cursor(old), _Cursor(new)
    while True:
        a, b = left.head(), right.head()
        if a is None and b is None:
            return
        if a is not None and (b is None or a.key < b.key):
            if await _advance(left, a):
                yield a.key
        elif b is not None and (a is None or b.key < a.key):
            if await _advance(right, b):
                yield b.key
        elif a is not None and b is not None:
            if a == b:
                left.skip()
                right.skip()
            elif a.level == b.level == 0:
                left.skip()
                right.skip()
                if _stored(a.pointer) != _stored(b.pointer):
                    yield a.key
            else:
                # What they share lies at the same level in both, so the higher one goes down.
                if a.level >= b.level:
                    await left.descend()
                if b.level >= a.level:
                    await right.descend()


async def _advance(cursor: _Cursor, head: _Head) -> bool:
    """Go on where only one map has something; returns whether that is a stored block."""
    if head.level:
        await cursor.descend()
        return False
    cursor.skip()
    return _stored(head.pointer) != HOLE


def _stored(pointer: int) -> int:
    return HOLE if pointer == ZERO else pointer


class _Head(NamedTuple):
    key: int
    pointer: int
    level: int
    """0: a data block; else the level of a node that has not been looked into."""


class _Frame:
    __slots__ = ("limit", "node", "slot")

    def __init__(self, node: MapNode, limit: int) -> None:
        self.node = node
        self.limit = limit
        self.slot = 0


class _Cursor:
    """Goes through a map in order, into those nodes only that it is told to."""

    def __init__(self, view: MapView) -> None:
        self._view = view
        self._stack = [_Frame(view.root, END)]

    def head(self) -> _Head | None:
        """What comes next; None at the end."""
        while self._stack:
            frame = self._stack[-1]
            if frame.slot < len(frame.node.keys):
                slot = frame.slot
                return _Head(frame.node.keys[slot], frame.node.values[slot], frame.node.level - 1)
            self._stack.pop()
        return None

    def skip(self) -> None:
        """Leave the head behind, with all that is below it."""
        self._stack[-1].slot += 1

    async def descend(self) -> None:
        """Look into the head, which is a node."""
        frame, head = self._stack[-1], self.head()
        assert head is not None
        later = frame.slot + 1
        limit = frame.node.keys[later] if later < len(frame.node.keys) else frame.limit
        frame.slot += 1
        node = await self._view.nodes.load(
            head.pointer, level=head.level, first_key=head.key, limit=limit
        )
        self._stack.append(_Frame(node, limit))
