"""Appender: adds bytes to the end of a container, one checkpoint per commit.

The caller says who it is (`writer_id`) and how far each commit goes (`position`); both stand in
the checkpoint's trailer, so that after a crash it can find out what was committed.

One appender per container and process, and one commit at a time.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.block_map import BlockMap
from hf_agent.hyperfile.checkpoint_build import CheckpointBuild, max_append_bytes
from hf_agent.hyperfile.commit import CheckpointCommit, Committed
from hf_agent.hyperfile.errors import (
    AppenderStateError,
    CheckpointsExhausted,
    ConflictError,
    ContainerExists,
    MissingObject,
    ReadOnlyLayout,
)
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.history import ancestors, read_checkpoints
from hf_agent.hyperfile.inode import (
    FLAG_COMPACTION,
    MAX_CHECKPOINT,
    Inode,
    decode_inode,
    empty_inode,
    with_flags,
)
from hf_agent.hyperfile.inode_copy import read_newest_checkpoint
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.meta_config import MIN_BLOCK_SHIFT, MetaConfig, PointerFormat
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.hyperfile.opening import FoundCheckpoint, State
from hf_agent.hyperfile.pointers import decode_place, is_place
from hf_agent.hyperfile.refused_write import object_is_ours
from hf_agent.hyperfile.stale import refuse_stale, telling_stale, tells_stale
from hf_agent.hyperfile.stored_trailer import read_trailer
from hf_agent.hyperfile.take_up import WRITE_MARK, reach_state_for_writing
from hf_agent.hyperfile.trailer import WRITER_ID_BYTES, Trailer
from hf_agent.store.base import Store, StoreConflict

__all__ = ["Appender", "CommitResult"]

_NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What a commit made."""

    checkpoint: int
    size: int
    """Length of the content with this checkpoint, in bytes."""
    uploaded_bytes: int
    """Length of the checkpoint object."""


class Appender:
    """Appends to one container. Make one with `Appender.open` or `Appender.create`."""

    def __init__(
        self,
        store: Store,
        state: State,
        latest_trailer: Trailer | None,
        *,
        clock: Clock,
        rng: random.Random,
        writer_id: bytes,
    ) -> None:
        self._store = store
        self._key = state.key
        self._clock = clock
        self._rng = rng
        self._writer_id = writer_id
        self._state = state
        self._build: CheckpointBuild | None = None
        self._commit: CheckpointCommit | None = None
        self._superseded = False
        self._tail: bytes | None = None
        self._nodes: dict[int, bytes] = {}
        self.latest_trailer = latest_trailer
        """Trailer of the newest checkpoint; None when it has none, or there is no checkpoint."""

    # -- making one ---------------------------------------------------------------------------

    @staticmethod
    def prepare_inode(
        now: float,
        block_size: int,
        *,
        meta_block_size: int = 4096,
        uid: int = 1000,
        gid: int = 1000,
        mode: int = 0o100644,
    ) -> bytes:
        """The 160 bytes of a new container's inode (format 3); `now` in Unix seconds.

        Raises `ValueError` for block sizes that are no powers of two from 4096 on, or too large
        for a checkpoint of 1 GiB.
        """
        shifts = meta_block_size.bit_length() - 1, block_size.bit_length() - 1
        meta = MetaConfig(*shifts, PointerFormat.PARTED)
        sizes = (meta.meta_block_size, meta.data_block_size) if min(shifts) >= 0 else None
        if (
            sizes != (meta_block_size, block_size)
            or min(shifts) < MIN_BLOCK_SHIFT
            or max_append_bytes(meta) == 0
        ):
            raise ValueError(
                "block sizes are powers of two, at least 4096, and fit a checkpoint of 1 GiB "
                f"block_size={block_size} meta_block_size={meta_block_size}"
            )
        now_ns = int(now * _NANOSECONDS)
        return empty_inode(meta, now_ns, uid=uid, gid=gid, mode=mode).encode()

    @classmethod
    async def create(
        cls,
        store: Store,
        key: str,
        inode_bytes: bytes,
        *,
        clock: Clock,
        rng: random.Random,
        writer_id: bytes,
        mark: str,
    ) -> Appender:
        """Create a container with an inode from `prepare_inode`, and open it.

        `mark` is unique to this creation and the same for every resend of it. Succeeds when the
        container is there already because of it. Raises `ContainerExists`, else as `open`.
        """
        decode_inode(inode_bytes, source=inode_key(key))
        try:
            await store.create(inode_key(key), inode_bytes, metadata={WRITE_MARK: mark})
        except StoreConflict as refused:
            body = memoryview(inode_bytes)
            if not await object_is_ours(store, inode_key(key), body, mark):
                raise ContainerExists(f"a container is there already key={key}") from refused
        return await cls.open(store, key, clock=clock, rng=rng, writer_id=writer_id)

    @classmethod
    async def open(
        cls, store: Store, key: str, *, clock: Clock, rng: random.Random, writer_id: bytes
    ) -> Appender:
        """Open the container at `key`, finishing commits that were left half done.

        Waits, by the store's clock, while the writer of such a commit may be alive; a commit that
        carries `writer_id` (16 bytes) is finished at once.
        Raises `NoSuchContainer`, `ReadOnlyLayout`, `StaleVersion` when another writer goes on and
        removes what was just found, `FormatError`, and the store's errors.
        """
        if len(writer_id) != WRITER_ID_BYTES:
            raise ValueError(f"a writer id has {WRITER_ID_BYTES} bytes, not {len(writer_id)}")
        state = await reach_state_for_writing(
            *(store, key),
            clock=clock,
            rng=rng,
            writer_id=writer_id,
            refuse=_refuse_what_is_not_appended_to,
        )
        trailer = None
        # What is damaged must not go into the next checkpoint, under a checksum of its own.
        found = await read_newest_checkpoint(store, state)
        if found is not None:
            # How far a later version's checkpoint goes cannot be told: nothing goes on top of it.
            async with telling_stale(store, key, state.inode, pinned=False):
                trailer = await read_trailer(
                    store, found.info.key, found.header, found.info.size, refuse_later=True
                )
        return cls(store, state, trailer, clock=clock, rng=rng, writer_id=writer_id)

    # -- what it is now -----------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The container's key."""
        return self._key

    @property
    def inode(self) -> Inode:
        """The container's inode, decoded."""
        return self._state.inode

    @property
    def inode_bytes(self) -> bytes:
        """The inode as it is stored."""
        return self._state.stored

    @property
    def size(self) -> int:
        """Length of the content in bytes."""
        return self._state.inode.size

    @property
    def checkpoint(self) -> int:
        """Number of the newest checkpoint; 0 when there is none."""
        return self._state.inode.last_cno

    @property
    def block_size(self) -> int:
        """Bytes of a data block."""
        return self._state.inode.meta.data_block_size

    @property
    def fingerprint(self) -> int:
        """Fingerprint of the stored inode."""
        return fingerprint(self._state.stored)

    @property
    def fingerprint_without_compaction(self) -> int:
        """The same, as it was before a compactor attached its result."""
        return fingerprint(with_flags(self._state.stored, clear=FLAG_COMPACTION))

    @property
    def max_append_bytes(self) -> int:
        """What one commit can always take."""
        return max_append_bytes(self._state.inode.meta)

    @property
    def cached_bytes(self) -> int:
        """Memory held for the next append: last partial block and right edge of the map."""
        return len(self._tail or b"") + sum(map(len, self._nodes.values()))

    def drop_cache(self) -> None:
        """Free that memory; `begin` reads it from the store again."""
        self._tail = None
        self._nodes = {}

    def history(self, newest: int | None = None) -> AsyncIterator[FoundCheckpoint]:
        """The checkpoints that the state reached was built on, newest first.

        With `newest`, the number of one of them, it begins there. It ends at the first checkpoint,
        or where the base of one is not there (any more). Raises the store's errors.
        """
        return _history(self._store, self._state, self.checkpoint if newest is None else newest)

    @tells_stale
    async def trailer_of(self, found: FoundCheckpoint) -> Trailer | None:
        """The trailer of a checkpoint that `history` gave; None when it has none.

        Raises `FormatError` for a damaged one, `StaleVersion` as `begin`, and the store's errors.
        """
        return await read_trailer(self._store, found.info.key, found.header, found.info.size)

    # -- appending ----------------------------------------------------------------------------

    @tells_stale
    async def begin(self, nbytes: int) -> CheckpointBuild:
        """Lay out a checkpoint that appends `nbytes` bytes; read them into `build.body`.

        A build that was begun before and never given to `commit` is dropped. Raises `ValueError`
        when `nbytes` is not from 1 to what fits a checkpoint of 1 GiB, `ConflictError` when
        another writer is known to have gone on from our last commit, `StaleVersion` when one is
        found to have, because objects of our version were removed: open it again then, too.
        `AppenderStateError` while a commit waits to be finished, `FormatError`, and the store's
        errors.
        """
        if self._commit is not None:
            raise AppenderStateError(
                f"a commit is not finished: call commit with its build again key={self._key}"
            )
        if self._superseded:
            raise ConflictError(
                "another writer has committed to the container since; open it again "
                f"key={self._key}"
            )
        if self._state.last_number >= MAX_CHECKPOINT:
            raise CheckpointsExhausted(self._key)
        inode = self._state.inode
        limit = self.max_append_bytes
        if not 1 <= nbytes <= limit:
            raise ValueError(
                "an append has at least one byte, and fits one checkpoint of 1 GiB "
                f"key={self._key} nbytes={nbytes} limit={limit}"
            )
        objects = CheckpointObjects(self._store, self._key, inode.meta)

        async def load(pointer: int) -> bytes:
            return self._nodes.get(pointer) or await objects.load_node(pointer)

        block_map = BlockMap(inode.root, inode.meta, load, key=self._key)
        first, partial = divmod(inode.size, inode.meta.data_block_size)
        if self._tail is None or len(self._tail) != partial:
            self._tail = await self._load_tail(objects, block_map, first, partial)
        await block_map.mark_dirty(first, -(-(partial + nbytes) // inode.meta.data_block_size))
        self._build = CheckpointBuild(block_map, inode, self._tail, nbytes)
        return self._build

    async def _load_tail(
        self, objects: CheckpointObjects, block_map: BlockMap, index: int, partial: int
    ) -> bytes:
        if partial == 0:
            return b""
        pointer = (await block_map.lookup(index, 1))[0]
        if not is_place(pointer):
            return bytes(partial)
        meta = self._state.inode.meta
        place = decode_place(pointer, meta.pointer_format)
        # The whole block, so that its checksum is looked at.
        return (await objects.read_data(place, 0, meta.data_block_size))[:partial]

    async def commit(self, build: CheckpointBuild, *, position: int) -> CommitResult:
        """Write the checkpoint, then swap the inode; done once this returns.

        `position` (below 2^64) goes into the trailer. After `StoreRetry` or `StoreRefused`, or
        after it was cancelled, call it again with the same build and position: nothing is written
        twice. `ConflictError` is final: another writer's state stands there, and the appender is
        of no more use. `NoSuchContainer`: somebody has removed it.
        """
        if build is not self._build:
            raise AppenderStateError(f"the build is not the last one begun key={self._key}")
        if self._commit is None:
            self._commit = CheckpointCommit(
                self._store,
                self._state,
                build,
                now_ns=int(self._clock.time() * _NANOSECONDS),
                writer_id=self._writer_id,
                position=position,
                new_mark=lambda: ulid(self._clock, self._rng),
            )
        elif self._commit.position != position:
            raise AppenderStateError(
                f"a resumed commit has another position key={self._key} position={position}"
            )
        committed = await self._commit.run()
        self._adopt(build, committed)
        return CommitResult(build.number, self._state.inode.size, len(build.object))

    async def _refuse_stale(self, missing: MissingObject) -> None:
        await refuse_stale(self._store, self._key, self._state.inode, missing, pinned=False)

    def _adopt(self, build: CheckpointBuild, committed: Committed) -> None:
        inode = decode_inode(committed.stored, source=inode_key(self._key))
        self._state = replace(
            self._state,
            inode_bytes=committed.stored,
            inode=inode,
            last_number=build.number,
            stored=committed.stored,
            etag=committed.etag,
        )
        self._superseded = committed.superseded
        self.latest_trailer = build.trailer
        self._tail, self._nodes = build.tail(), build.rightmost_nodes()
        self._build = self._commit = None


def _history(store: Store, state: State, newest: int) -> AsyncIterator[FoundCheckpoint]:
    """The checkpoints that `newest` was built on, itself first."""
    numbers = range(newest, 0, -1)
    found = read_checkpoints(store, state.key, numbers, state.inode.meta.pointer_format)
    return ancestors(found, newest)


def _refuse_what_is_not_appended_to(state: State) -> None:
    meta = state.inode.meta
    if meta.pointer_format is not PointerFormat.PARTED:
        what = (
            f"has pointer format {int(meta.pointer_format)}; an appender appends only to "
            f"containers of format {int(PointerFormat.PARTED)}"
        )
    elif max_append_bytes(meta) == 0:
        what = f"has blocks of {meta.data_block_size} bytes, too large for one checkpoint"
    else:
        return
    raise ReadOnlyLayout(f"the container {what}; append to another key key={state.key}")
