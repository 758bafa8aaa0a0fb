"""Reader: content of a container, as it is now or at a checkpoint.

A reader shows one state; `refresh` moves it to the newest. It writes nothing, and needs nothing
from a writer that may be at work.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

from hf_agent.hyperfile.block_map import BlockMap
from hf_agent.hyperfile.data_runs import read_blocks
from hf_agent.hyperfile.errors import FormatError, MissingObject
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.inode_copy import check_inode, copied_in
from hf_agent.hyperfile.objects import DEFAULT_CACHE_BYTES, CheckpointObjects
from hf_agent.hyperfile.opening import State, find_checkpoint, reach_state
from hf_agent.hyperfile.stale import refuse_stale, tells_stale
from hf_agent.store.base import Store

__all__ = ["Reader"]

_MAX_REQUEST_BYTES = 8 << 20
"""Blocks that lie side by side are joined into one request up to this size."""
_MAX_REQUESTS = 8
"""Requests of one read that run at a time."""
_CHUNKS_AHEAD = 2
"""Chunks that iteration reads ahead of the one it gave out."""


class Reader:
    """Reads one container. Make one with `Reader.open`."""

    def __init__(
        self, store: Store, key: str, inode: Inode, *, checked: bool, cache_bytes: int
    ) -> None:
        self._store = store
        self._key = key
        self._checked = checked
        self._cache_bytes = cache_bytes
        self._pinned = False
        self._set(inode, self._new_objects(inode))

    @classmethod
    async def open(
        cls,
        store: Store,
        key: str,
        *,
        checkpoint: int | None = None,
        checked: bool = True,
        cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> Reader:
        """Open the container at `key` as it is now, or as it was at a checkpoint.

        Whatever has a checksum is compared with it before it is given out, unless `checked` is
        false: that is for getting at what is left of a damaged container.
        Raises `NoSuchContainer`, `NoSuchCheckpoint`, `ChecksumError`, `FormatError`, and the
        store's errors.
        """
        if checkpoint is not None:
            found = await find_checkpoint(store, key, checkpoint, checked=checked)
            reader = cls(store, key, found.inode, checked=checked, cache_bytes=cache_bytes)
            reader._objects.stand_on(found)
            reader._pinned = True
            return reader
        state = await reach_state(store, key, checked=checked)
        reader = cls(store, key, state.inode, checked=checked, cache_bytes=cache_bytes)
        await reader._check_inode(state, reader._objects)
        return reader

    def _new_objects(self, inode: Inode) -> CheckpointObjects:
        return CheckpointObjects(
            *(self._store, self._key, inode.meta),
            checked=self._checked,
            cache_bytes=self._cache_bytes,
        )

    async def _check_inode(self, state: State, objects: CheckpointObjects) -> None:
        if state.newest is not None:
            # It was taken up: its inode is the copy itself.
            objects.stand_on(state.newest)
            return
        if not self._checked:
            return
        number, copy = copied_in(state.inode_bytes), None
        try:
            copy = await objects.stand_on_newest(number) if number else None
        except FormatError:
            if state.inode.inline is None:
                raise
        check_inode(self._key, state.inode_bytes, copy)

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return self.inode.size

    async def refresh(self) -> bool:
        """Move to the container's newest state; whether that is another one than before.

        A reader that was opened at a checkpoint stays there. Raises as `open`.
        """
        if self._pinned:
            return False
        state = await reach_state(self._store, self._key, checked=self._checked)
        inode = state.inode
        if inode == self.inode:
            return False
        objects = self._objects
        if inode.meta != self.inode.meta or inode.last_cno < self.inode.last_cno:
            # Another container stands here now: nothing that was read before holds.
            objects = self._new_objects(inode)
        await self._check_inode(state, objects)
        self._set(inode, objects)
        return True

    def _set(self, inode: Inode, objects: CheckpointObjects) -> None:
        self.inode = inode
        self._objects = objects
        self._map = (
            BlockMap(inode.root, inode.meta, objects.load_node, key=self._key)
            if inode.inline is None
            else None
        )

    async def _refuse_stale(self, missing: MissingObject) -> None:
        await refuse_stale(self._store, self._key, self.inode, missing, pinned=self._pinned)

    @tells_stale
    async def read(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end of the content; holes are zeros.

        Holds all of it in memory: use `chunks` for large ranges.
        Raises `StaleVersion` when the container has moved on and objects of this version were
        removed (`refresh` moves on), `ChecksumError`, `FormatError`, and the store's errors.
        """
        if offset < 0 or length < 0:
            raise ValueError(f"a range has no negative ends {offset=} {length=}")
        length = max(min(length, self.size - offset), 0)
        if length == 0:
            return b""
        if self._map is None:
            return (self.inode.inline or b"")[offset : offset + length]
        size = self.inode.meta.data_block_size
        first, skip = divmod(offset, size)
        count = -(-(skip + length) // size)
        pointers = await self._map.lookup(first, count)
        return await read_blocks(
            *(self._objects, pointers, self.inode.meta),
            skip=skip,
            length=length,
            max_bytes=_MAX_REQUEST_BYTES,
            requests=_MAX_REQUESTS,
        )

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self.chunks()

    async def chunks(
        self, start: int = 0, end: int | None = None, *, chunk_bytes: int = 4 << 20
    ) -> AsyncGenerator[bytes, None]:
        """Bytes `[start, end)` in order, in chunks that end where multiples of `chunk_bytes` do.

        Reads ahead. Raises as `read`. Close it (`aclose`) when it is not used to its end.
        """
        end = self.size if end is None else min(end, self.size)
        ahead: deque[asyncio.Task[bytes]] = deque()
        position = start
        try:
            while position < end or ahead:
                while position < end and len(ahead) <= _CHUNKS_AHEAD:
                    upto = min((position // chunk_bytes + 1) * chunk_bytes, end)
                    ahead.append(asyncio.create_task(self.read(position, upto - position)))
                    position = upto
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
