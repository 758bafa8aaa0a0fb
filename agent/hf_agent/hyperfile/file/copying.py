"""Copying a container, or one state of it, between stores."""

from __future__ import annotations

import mmap
import random
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Literal

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.errors import (
    CheckpointTooLarge,
    ContainerExists,
    FormatError,
    HyperfileError,
    MissingObject,
)
from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.handle import HyperFile
from hf_agent.hyperfile.file.holes import BlockFinder
from hf_agent.hyperfile.file.options import DEFAULT_OPTIONS, FileOptions
from hf_agent.hyperfile.file.removal import remove
from hf_agent.hyperfile.file.states import content_at_checkpoint, content_now
from hf_agent.hyperfile.inode import FLAG_COMPACTION, INODE_BYTES, InodeLayout, with_flags
from hf_agent.hyperfile.keys import checkpoint_key, inode_key, parse_object_key
from hf_agent.hyperfile.opening import State, reach_state
from hf_agent.hyperfile.refused_write import has_bytes
from hf_agent.hyperfile.stale import refuse_stale, telling_stale
from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import (
    Body,
    ObjectInfo,
    Store,
    StoreConflict,
    StoreError,
    StoreNotFound,
)

__all__ = ["copy"]

_CHUNK_BYTES = 8 << 20
_IN_MEMORY_BYTES = 64 << 20
"""Objects up to this size are copied through memory, larger ones through a temporary file."""

Progress = Callable[[int], None]


async def copy(
    source_store: Store,
    source_key: str,
    target_store: Store,
    target_key: str,
    *,
    clock: Clock,
    rng: random.Random,
    checkpoint: int | Literal["history"] | None = None,
    options: FileOptions | None = None,
    progress: Progress = lambda nbytes: None,
    on_total: Progress | None = None,
) -> None:
    """Copy a container to where none is. The copy is there when it is complete, and not before.

    With `checkpoint` None or a number, the copy has the content, owner, mode and times of that
    state, as its one checkpoint; holes stay holes. It has the source's block sizes and pointer
    format, or those of `options`. (Of a large file in formats 1 and 2, it has several checkpoints,
    the first ones with a part of the content.)

    With `"history"`, every checkpoint object is copied as it is, and the inode last.

    `progress` is called with the number of bytes copied since the last call. `on_total` is told how
    many it will be, at most; for a history, that takes a listing of its own.

    Raises `NoSuchContainer`, `NoSuchCheckpoint`, `ContainerExists`, `StaleVersion` when what is
    copied is removed from the source meanwhile, `ChecksumError`, `FormatError`, and the stores'
    errors.
    """
    if checkpoint == "history":
        await _copy_history(
            *(source_store, source_key, target_store, target_key, progress, on_total),
            clock=clock,
            rng=rng,
        )
        return
    content = (
        await content_now(source_store, source_key, options=DEFAULT_OPTIONS)
        if checkpoint is None
        else await content_at_checkpoint(
            source_store, source_key, checkpoint, options=DEFAULT_OPTIONS
        )
    )
    if on_total is not None:
        on_total(min(content.inode.blocks * 512, content.size))
    if options is None:
        meta = content.inode.meta
        options = FileOptions(
            block_size=meta.data_block_size,
            meta_block_size=meta.meta_block_size,
            pointer_format=int(meta.pointer_format),
        )
    target = await HyperFile.open(
        target_store, target_key, "x", clock=clock, rng=rng, options=options
    )
    try:
        source = _Source(source_store, source_key, content, pinned=checkpoint is not None)
        await _copy_content(source, target, progress)
        await target.close()
    except BaseException:
        await _give_up(target, target_store)
        raise


class _Source:
    """The state to be copied. Its calls tell a version that was removed from damage."""

    def __init__(self, store: Store, key: str, content: Content, *, pinned: bool) -> None:
        self._told = partial(telling_stale, store, key, content.inode, pinned=pinned)
        self._finder = BlockFinder(content, None, None)
        self.content = content

    async def data_run(self, index: int) -> tuple[int, int]:
        """First block that holds data from `index` on, and the first behind it that does not."""
        async with self._told():
            start = await self._finder.next_data(index)
            return start, await self._finder.next_hole(start)

    async def read(self, offset: int, length: int) -> bytes:
        """See `Content.read`."""
        async with self._told():
            return await self.content.read(offset, length)


async def _copy_content(source: _Source, target: HyperFile, progress: Progress) -> None:
    content, index = source.content, 0
    size = content.inode.meta.data_block_size
    while index * size < content.size:
        first, index = await source.data_run(index)
        start, end = first * size, min(index * size, content.size)
        while start < end:
            length = min(end - start, _CHUNK_BYTES - start % _CHUNK_BYTES)
            data = await source.read(start, length)
            try:
                await target.pwrite(start, data)
            except CheckpointTooLarge:
                await target.flush()
                await target.pwrite(start, data)
            progress(length)
            start += length
    await target.truncate(content.size)
    inode = content.inode
    target.set_attributes(
        mode=inode.mode,
        uid=inode.uid,
        gid=inode.gid,
        atime_ns=inode.atime_ns,
        mtime_ns=inode.mtime_ns,
    )


async def _give_up(target: HyperFile, store: Store) -> None:
    """Take an empty container away again, as far as the store lets us."""
    try:
        await target.abort()
        now = await content_now(store, target.key, options=FileOptions(cache_bytes=0))
        if not now.inode.last_cno:
            await remove(store, target.key)
    except (StoreError, HyperfileError):
        pass  # what failed first is what the caller has to know


# -- object by object ---------------------------------------------------------------------------


async def _copy_history(
    source: Store,
    source_key: str,
    target: Store,
    target_key: str,
    progress: Progress,
    on_total: Progress | None,
    *,
    clock: Clock,
    rng: random.Random,
) -> None:
    if await _exists(target, inode_key(target_key)):
        raise ContainerExists(f"a container is there already key={target_key}")
    state = await reach_state(source, source_key)
    # Objects are never changed, and those that this state refers to are there by now.
    if on_total is not None:
        sizes = [info.size async for info in _checkpoint_objects(source, source_key, state)]
        on_total(sum(sizes) + INODE_BYTES)
    async for info in _checkpoint_objects(source, source_key, state):
        to = target_key + info.key[len(source_key) :]
        async with telling_stale(source, source_key, state.inode, pinned=False):
            await _copy_object(source, info, target, to, ulid(clock, rng), progress)
    await _still_there(source, state)
    inode = state.inode_bytes
    if state.inode.inline is None and state.inode.layout is InodeLayout.CURRENT:
        # A compaction is attached by metadata, which not every store keeps: the copy has none.
        inode = with_flags(inode, clear=FLAG_COMPACTION)
    await _create(target, inode_key(target_key), inode, ulid(clock, rng))
    progress(INODE_BYTES)


async def _still_there(store: Store, state: State) -> None:
    """Raise `StaleVersion` if the state's checkpoint was removed: then other objects that it needs
    may have gone before they were listed, and the copy would lack them."""
    number, pointer_format = state.inode.last_cno, state.inode.meta.pointer_format
    name = checkpoint_key(state.key, number, pointer_format)
    if number and not await _exists(store, name):
        missing = MissingObject("the inode's checkpoint is not there", object=name, offset=0)
        await refuse_stale(store, state.key, state.inode, missing, pinned=False)
        raise missing


async def _checkpoint_objects(store: Store, key: str, state: State) -> AsyncIterator[ObjectInfo]:
    async for info in store.list(key + "/"):
        if isinstance(info, ObjectInfo):
            name = parse_object_key(key, info.key)
            if name is not None and name.checkpoint <= state.inode.last_cno:
                yield info


async def _copy_object(
    source: Store, info: ObjectInfo, target: Store, to: str, mark: str, progress: Progress
) -> None:
    if info.size <= _IN_MEMORY_BYTES:
        data = bytearray(info.size)
        await _read_into(source, info, memoryview(data), progress)
        await _create(target, to, data, mark)
        return
    with tempfile.TemporaryFile() as file:
        file.truncate(info.size)
        # Unmapped with its last view: a store may hold on to one a little longer.
        view = memoryview(mmap.mmap(file.fileno(), info.size))
        await _read_into(source, info, view, progress)
        await _create(target, to, view, mark)


async def _read_into(source: Store, info: ObjectInfo, view: memoryview, progress: Progress) -> None:
    for start in range(0, info.size, _CHUNK_BYTES):
        end = min(start + _CHUNK_BYTES, info.size)
        try:
            data = (await source.get(info.key, start=start, end=end)).data
        except StoreNotFound as error:
            rule = "an object has gone while it was copied"
            raise MissingObject(rule, object=info.key, offset=start) from error
        if len(data) != end - start:
            raise FormatError("the object ends early", object=info.key, offset=start)
        view[start:end] = data
        progress(end - start)


async def _create(store: Store, key: str, body: Body, mark: str) -> None:
    try:
        await store.create(key, body, metadata={WRITE_MARK: mark})
    except StoreConflict as refused:
        # Perhaps of a copy that was interrupted: what counts is what is in it.
        if not await has_bytes(store, key, body):
            raise ContainerExists(f"other objects are there already key={key}") from refused


async def _exists(store: Store, key: str) -> bool:
    try:
        await store.head(key)
    except StoreNotFound:
        return False
    return True
