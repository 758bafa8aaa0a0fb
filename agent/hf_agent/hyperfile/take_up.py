"""A writer's opening: finishes commits that were left half done, once nobody else will."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.errors import NoSuchContainer, ReadOnlyLayout
from hf_agent.hyperfile.inode import FLAG_COMPACTION, InodeLayout, with_flags
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.opening import FoundCheckpoint, State, reach_state
from hf_agent.hyperfile.stored_trailer import read_trailer
from hf_agent.store.base import Store, StoreConflict, StoreNotFound, StoreRetry

__all__ = ["WRITE_MARK", "reach_state_for_writing"]

WRITE_MARK = "hf-write"
"""User metadata of every conditional write: the same for every resend of it."""
_ABANDONED_AFTER = 5.0
"""Seconds, by the store's clock, after which a half-done commit's writer is taken for dead."""
_LOOK_AGAIN_AFTER = 1.0
_MAX_LOOKS = 120
"""A container that keeps changing for this many looks is left to its other writers for now."""


def _refuse_nothing_more(state: State) -> None:
    """What `refuse` is when every format is written."""


async def reach_state_for_writing(
    store: Store,
    key: str,
    *,
    clock: Clock,
    rng: random.Random,
    writer_id: bytes,
    refuse: Callable[[State], None] = _refuse_nothing_more,
) -> State:
    """The state reached, with its inode stored: no commit below it is half done.

    A commit whose trailer carries `writer_id` is finished at once, any other when it is old
    enough. `refuse` raises for states that the caller does not write; nothing has been written
    then. Raises `NoSuchContainer`, `ReadOnlyLayout`, `FormatError`, and the store's errors.
    """
    for _ in range(_MAX_LOOKS):
        # What cannot be read was never finished, so nobody counts on it.
        state = await reach_state(store, key, checked=False)
        _refuse_what_is_never_written(state)
        refuse(state)
        if not state.taken_up:
            return state
        if not await _abandoned_or_own(store, state, writer_id):
            await clock.sleep(_LOOK_AGAIN_AFTER)
            continue
        # The bit is never written without its metadata.
        reached = with_flags(state.inode_bytes, clear=FLAG_COMPACTION)
        try:
            etag = await store.replace(
                inode_key(key), reached, etag=state.etag, metadata={WRITE_MARK: ulid(clock, rng)}
            )
        except StoreConflict:
            continue
        except StoreNotFound as error:
            raise NoSuchContainer(key) from error
        return replace(state, inode_bytes=reached, stored=reached, etag=etag, taken_up=())
    raise StoreRetry(f"the container is being changed by other writers, try again later key={key}")


def _refuse_what_is_never_written(state: State) -> None:
    inode = state.inode
    if inode.layout is not InodeLayout.CURRENT:
        what = "has the inode layout of hyperfile 0.2, which is read but never written"
    elif inode.inline is not None:
        what = "holds its content inline in the inode, which is read but never written"
    else:
        return
    raise ReadOnlyLayout(f"the container {what}; write to another key key={state.key}")


async def _abandoned_or_own(store: Store, state: State, writer_id: bytes) -> bool:
    """Whether no other writer may still be about to finish what was taken up."""
    for found in state.taken_up:
        age = found.info.date - found.info.last_modified
        if age <= _ABANDONED_AFTER and not await _is_own(store, found, writer_id):
            return False
    return True


async def _is_own(store: Store, found: FoundCheckpoint, writer_id: bytes) -> bool:
    trailer = await read_trailer(store, found.info.key, found.header, found.info.size)
    return trailer is not None and trailer.writer_id == writer_id
