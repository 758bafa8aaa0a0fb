"""Rolling back: an older state becomes the newest one, as a checkpoint of its own."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from dataclasses import replace

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.appender import CommitResult
from hf_agent.hyperfile.commit import CheckpointCommit
from hf_agent.hyperfile.errors import (
    CheckpointsExhausted,
    ConflictError,
    MissingObject,
    NoSuchCheckpoint,
)
from hf_agent.hyperfile.file.build import FileBuild
from hf_agent.hyperfile.file.map_changes import NewInner, NewLeaf, NewMap, NewNode
from hf_agent.hyperfile.file.options import DEFAULT_OPTIONS, FileOptions
from hf_agent.hyperfile.file.states import reach_for_writing
from hf_agent.hyperfile.file.write_ahead import WriteAhead
from hf_agent.hyperfile.history import ancestors, read_checkpoints
from hf_agent.hyperfile.inode import MAX_CHECKPOINT, Inode
from hf_agent.hyperfile.keys import checkpoint_key, inode_key
from hf_agent.hyperfile.nodes import decode_root
from hf_agent.hyperfile.opening import State
from hf_agent.hyperfile.stale import refuse_stale
from hf_agent.hyperfile.trailer import WRITER_ID_BYTES
from hf_agent.store.base import Store

__all__ = ["rollback"]

_BRIDGED = 64
"""Checkpoints that may stand between one and its base before the base is taken for removed."""
_MAX_TRIES = 100


async def rollback(
    store: Store,
    key: str,
    number: int,
    *,
    clock: Clock,
    rng: random.Random,
    options: FileOptions = DEFAULT_OPTIONS,
    on_total: Callable[[int], None] = lambda count: None,
    on_checkpoint: Callable[[int], None] = lambda count: None,
) -> CommitResult:
    """Make content, size, owner and mode what they were at checkpoint `number`.

    That is a new checkpoint, which holds nothing but an inode: it refers to the blocks that are
    there, and no checkpoint is lost. When another writer comes first: `ConflictError`, or, with
    `on_conflict="retry"`, its changes are rolled back as well.

    The history is followed from the newest checkpoint down to `number`: `on_total` is told how many
    checkpoints that are at most, `on_checkpoint` how many more have been seen.

    Raises `NoSuchCheckpoint` for a number that the newest state was not built on,
    `NoSuchContainer`, `ReadOnlyLayout`, `CheckpointsExhausted`, `StaleVersion` when another writer
    goes on and removes what was found, `FormatError`, and the store's errors. After `StoreRetry` it
    is open whether it was done; doing it twice does no harm.
    """
    writer_id = rng.randbytes(WRITER_ID_BYTES)
    conflict: ConflictError | None = None
    for _ in range(_MAX_TRIES):
        state = await reach_for_writing(store, key, clock=clock, rng=rng, writer_id=writer_id)
        if state.last_number >= MAX_CHECKPOINT:
            raise CheckpointsExhausted(key)
        on_total(max(state.inode.last_cno - number + 1, 0))
        target = await _ancestor(store, state, number, on_checkpoint)
        now_ns = int(clock.time() * 1_000_000_000)
        build = _build(store, state, target, now_ns, options, clock=clock, rng=rng)
        commit = CheckpointCommit(
            *(store, state, build),
            now_ns=now_ns,
            writer_id=writer_id,
            position=0,
            new_mark=lambda: ulid(clock, rng),
        )
        try:
            await commit.run()
        except ConflictError as error:
            if options.on_conflict == "fail":
                raise
            conflict = error
            continue
        return CommitResult(build.number, target.size, build.object_bytes)
    assert conflict is not None
    raise conflict


async def _ancestor(
    store: Store, state: State, number: int, on_checkpoint: Callable[[int], None]
) -> Inode:
    """The inode of a checkpoint that the state was built on."""
    newest = state.inode.last_cno
    if 1 <= number <= newest:
        found = read_checkpoints(
            *(store, state.key, range(newest, number - 1, -1), state.inode.meta.pointer_format),
            skip_damaged=True,
        )
        above = newest + 1
        async for checkpoint in ancestors(found, newest, bridge=_BRIDGED):
            on_checkpoint(above - checkpoint.header.checkpoint)
            above = checkpoint.header.checkpoint
            if checkpoint.header.checkpoint == number:
                return checkpoint.inode
        if above > newest:
            # Not even the newest one is there: most likely a later one is, by now.
            name = checkpoint_key(state.key, newest, state.inode.meta.pointer_format)
            missing = MissingObject("the inode's checkpoint has gone", object=name, offset=0)
            await refuse_stale(store, state.key, state.inode, missing, pinned=False)
    raise NoSuchCheckpoint(state.key, number)


def _build(
    store: Store,
    state: State,
    target: Inode,
    now_ns: int,
    options: FileOptions,
    *,
    clock: Clock,
    rng: random.Random,
) -> FileBuild:
    root = decode_root(target.root, source=inode_key(state.key), offset=104)
    keys, values = array("Q", root.node.keys), array("Q", root.node.values)
    node: NewNode = (
        NewLeaf(keys, values)
        if root.node.level == 1
        else NewInner(root.node.level, keys, list(values))
    )
    meta = target.meta
    entries = target.blocks * 512 // meta.data_block_size
    inode = replace(target, ctime_ns=now_ns, mtime_ns=now_ns, flags=state.inode.flags)
    return FileBuild(
        *(inode, NewMap(node, root.direct, entries, []), root.user_data),
        written=array("Q"),
        blocks=(),
        in_memory=array("Q"),
        ahead=WriteAhead(store, state.key, meta, clock=clock, rng=rng),
        part_bytes=options.part_bytes,
    )
