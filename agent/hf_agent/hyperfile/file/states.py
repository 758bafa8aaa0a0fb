"""Reaches the state of a container that a file is opened on: for reading, and for writing."""

from __future__ import annotations

import random
from dataclasses import replace

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.checkpoints import checkpoint_at
from hf_agent.hyperfile.errors import (
    ContainerExists,
    FormatError,
    NoCheckpointThen,
    ReadOnlyLayout,
)
from hf_agent.hyperfile.file.content import Content, Sources
from hf_agent.hyperfile.file.layout import fits_one_object
from hf_agent.hyperfile.file.options import FileOptions
from hf_agent.hyperfile.inode import Inode, empty_inode
from hf_agent.hyperfile.inode_copy import check_inode, read_newest_checkpoint
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.opening import State, find_checkpoint, reach_state, read_checkpoint
from hf_agent.hyperfile.refused_write import object_is_ours
from hf_agent.hyperfile.take_up import WRITE_MARK, reach_state_for_writing
from hf_agent.store.base import Store, StoreConflict, StoreNotFound, StoreRetry

__all__ = [
    "content_at_checkpoint",
    "content_now",
    "content_of",
    "create_container",
    "open_content",
    "reach_for_writing",
    "sources_still_true",
    "with_inode",
]

_UID = _GID = 1000
_MODE = 0o100644


def content_of(
    store: Store, key: str, inode: Inode, *, sources: Sources | None, options: FileOptions
) -> Content:
    """What an inode describes; with the caches of `sources`, where these are still true."""
    sources = sources or Sources.of(store, key, inode, options=options)
    return Content(inode, sources, key=key)


async def sources_still_true(
    store: Store, key: str, before: Content | None, now: Inode
) -> Sources | None:
    """The caches of an earlier state, unless another container stands at its key by now.

    Objects are never overwritten: so where the earlier state's checkpoint is still what it was,
    everything else that was read is. Raises the store's errors.
    """
    if before is None or before.inode.meta != now.meta or not before.inode.last_cno > 0:
        return None
    number, pointer_format = before.inode.last_cno, before.inode.meta.pointer_format
    try:
        found = await read_checkpoint(store, key, number, pointer_format)
    except (FormatError, StoreNotFound):
        return None
    return before.sources if found.inode == before.inode else None


async def content_now(
    store: Store, key: str, *, before: Content | None = None, options: FileOptions
) -> Content:
    """What the container at `key` holds now; `before` itself when that has not changed.

    Raises `NoSuchContainer`, `ChecksumError`, `FormatError`, and the store's errors.
    """
    state = await reach_state(store, key)
    if before is not None and before.inode == state.inode:
        return before
    sources = await sources_still_true(store, key, before, state.inode)
    content = content_of(store, key, state.inode, sources=sources, options=options)
    objects, number = content.sources.objects, state.inode.last_cno
    if state.newest is not None:
        # It was taken up: its inode is the copy itself.
        objects.stand_on(state.newest)
    elif state.inode.inline is None:
        copy = await objects.stand_on_newest(number) if number else None
        check_inode(key, state.inode_bytes, copy)
    return content


async def content_at_checkpoint(
    store: Store, key: str, number: int, *, options: FileOptions
) -> Content:
    """What the container at `key` held at a checkpoint.

    Raises `NoSuchCheckpoint`, `ChecksumError`, `FormatError`, and the store's errors.
    """
    found = await find_checkpoint(store, key, number)
    content = content_of(store, key, found.inode, sources=None, options=options)
    content.sources.objects.stand_on(found)
    return content


async def open_content(
    store: Store,
    key: str,
    *,
    checkpoint: int | None,
    at_time: float | None,
    options: FileOptions,
) -> Content:
    """What the container holds now, or held at a checkpoint or at a time (Unix seconds).

    Raises `NoCheckpointThen`, and as `content_now` and `content_at_checkpoint`.
    """
    if at_time is not None:
        found = await checkpoint_at(store, key, at_time)
        if found is None:
            raise NoCheckpointThen(key, at_time)
        checkpoint = found.number
    if checkpoint is None:
        return await content_now(store, key, options=options)
    return await content_at_checkpoint(store, key, checkpoint, options=options)


async def reach_for_writing(
    store: Store, key: str, *, clock: Clock, rng: random.Random, writer_id: bytes
) -> State:
    """The state to build on: no commit below it is half done, and its inode is undamaged.

    Raises `NoSuchContainer`, `ReadOnlyLayout`, `ChecksumError`, `FormatError`, and the store's
    errors.
    """
    state = await reach_state_for_writing(
        *(store, key), clock=clock, rng=rng, writer_id=writer_id, refuse=_refuse_too_large_blocks
    )
    # What is damaged must not go into the next checkpoint, under a checksum of its own.
    return replace(state, newest=await read_newest_checkpoint(store, state))


def _refuse_too_large_blocks(state: State) -> None:
    meta = state.inode.meta
    if not fits_one_object(meta):
        raise ReadOnlyLayout(
            f"the container has blocks of {meta.data_block_size} bytes and map nodes of "
            f"{meta.meta_block_size} bytes, too large to write another checkpoint key={state.key}"
        )


async def create_container(
    store: Store, key: str, options: FileOptions, *, clock: Clock, rng: random.Random
) -> None:
    """Create an empty container.

    Raises `ContainerExists`, `ValueError` for blocks that do not fit an object, and the store's
    errors.
    """
    meta = options.meta_config()
    if not fits_one_object(meta):
        raise ValueError(
            "an object of this format does not hold blocks of that size "
            f"block_size={options.block_size} meta_block_size={options.meta_block_size} "
            f"pointer_format={options.pointer_format}"
        )
    now_ns = int(clock.time() * 1_000_000_000)
    inode = empty_inode(meta, now_ns, uid=_UID, gid=_GID, mode=_MODE).encode()
    name, mark = inode_key(key), ulid(clock, rng)
    try:
        await store.create(name, inode, metadata={WRITE_MARK: mark})
    except StoreConflict as refused:
        if not await object_is_ours(store, name, inode, mark):
            raise ContainerExists(f"a container is there already key={key}") from refused
    except StoreRetry as lost:
        # The answer may be all that was lost. A second try would find our own container there.
        try:
            landed = await object_is_ours(store, name, inode, mark)
        except StoreRetry:
            raise lost from None
        if not landed:
            raise ContainerExists(f"a container is there already key={key}") from lost


def with_inode(state: State, inode_bytes: bytes, inode: Inode, etag: str, number: int) -> State:
    """The state after a commit of our own."""
    return replace(
        state,
        inode_bytes=inode_bytes,
        inode=inode,
        last_number=number,
        stored=inode_bytes,
        etag=etag,
        newest=None,
    )
