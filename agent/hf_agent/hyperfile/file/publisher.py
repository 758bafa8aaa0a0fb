"""The writing side of a file: collects changes, and turns them into checkpoints.

    changes ──▶ write ahead (when they are many) ──▶ complete partial blocks ──▶ update the map
            ──▶ build ──▶ commit: parts, checkpoint, inode ──▶ the new state

A commit that was interrupted is gone on with before anything else is written. One that lost to
another writer is, if that is wanted, built again on the other writer's state.
"""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.appender import CommitResult
from hf_agent.hyperfile.commit import CheckpointCommit, Committed
from hf_agent.hyperfile.errors import (
    CheckpointsExhausted,
    ConflictError,
    ContainerExists,
    NoSuchContainer,
)
from hf_agent.hyperfile.file.build import FileBuild
from hf_agent.hyperfile.file.content import Content, Sources
from hf_agent.hyperfile.file.dirty import DirtyBlock, DirtyState
from hf_agent.hyperfile.file.flights import Flights
from hf_agent.hyperfile.file.layout import max_data_blocks
from hf_agent.hyperfile.file.object_encoding import ObjectIdentity
from hf_agent.hyperfile.file.options import FileOptions, Mode
from hf_agent.hyperfile.file.parts import FileParts
from hf_agent.hyperfile.file.preparing import (
    changed_inode,
    check_room,
    complete_blocks,
    prepare_build,
)
from hf_agent.hyperfile.file.states import (
    content_of,
    create_container,
    reach_for_writing,
    sources_still_true,
    with_inode,
)
from hf_agent.hyperfile.file.write_ahead import AheadBlock, WriteAhead
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.inode import MAX_CHECKPOINT, decode_inode
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.opening import State
from hf_agent.hyperfile.trailer import WRITER_ID_BYTES
from hf_agent.store.base import Store

__all__ = ["Publisher", "reach_or_create"]

_NANOSECONDS = 1_000_000_000
_MAX_REBASES = 100
"""Other writers that may come first, one after the other, before a flush gives up."""
_PARTS_OF_A_SIZE = 2048


class Publisher:
    """One file's changes on top of the state that they were made on.

    Not for calls side by side: `HyperFile` sees to that.
    """

    def __init__(
        self, store: Store, key: str, *, options: FileOptions, clock: Clock, rng: random.Random
    ) -> None:
        self._store = store
        self._key = key
        self._options = options
        self._clock = clock
        self._rng = rng
        self._writer_id = rng.randbytes(WRITER_ID_BYTES)
        self._state: State | None = None
        self._content: Content | None = None
        self._dirty: DirtyState | None = None
        self._ahead: WriteAhead | None = None
        self._flights: Flights | None = None
        self._commit: CheckpointCommit | None = None
        self._build: FileBuild | None = None
        self._outdated = False
        self._unknown = False

    # -- the state ----------------------------------------------------------------------------

    async def reach(self) -> bool:
        """Go to the newest state; returns whether it is another one. There are no changes then.

        Raises `NoSuchContainer`, `ReadOnlyLayout`, `FormatError`, and the store's errors.
        """
        before = self._state
        await self._go_to(await self._reach_state())
        self._dirty = DirtyState(self.content.size, self.content.inode.meta.data_block_size)
        return before is None or before.inode_bytes != self.state.inode_bytes

    async def _reach_state(self) -> State:
        return await reach_for_writing(
            *(self._store, self._key), clock=self._clock, rng=self._rng, writer_id=self._writer_id
        )

    async def _go_to(self, state: State) -> None:
        """Take another writer's state as the base, or the first one."""
        sources = await sources_still_true(*(self._store, self._key), self._content, state.inode)
        self._adopt_state(state, sources)
        if state.newest is not None:
            self.content.sources.objects.stand_on(state.newest)

    def _adopt_state(self, state: State, sources: Sources | None) -> None:
        self._content = content_of(
            *(self._store, self._key, state.inode),
            sources=sources,
            options=self._options,
        )
        self._state = state
        self._outdated = self._unknown = False
        if self._ahead is None:
            self._ahead = WriteAhead(
                *(self._store, self._key, state.inode.meta), clock=self._clock, rng=self._rng
            )
            self._flights = Flights(self._ahead, state.inode.meta.data_block_size)

    @property
    def state(self) -> State:
        """The state that the changes are on top of."""
        assert self._state is not None
        return self._state

    @property
    def content(self) -> Content:
        """What that state holds."""
        assert self._content is not None
        return self._content

    @property
    def dirty(self) -> DirtyState:
        """The changes."""
        assert self._dirty is not None
        return self._dirty

    @property
    def ahead(self) -> WriteAhead:
        """Those of them that are on the store already."""
        assert self._ahead is not None
        return self._ahead

    @property
    def flights(self) -> Flights:
        """Those that are on their way to it."""
        assert self._flights is not None
        return self._flights

    @property
    def committing(self) -> bool:
        """Whether a commit was begun and has not ended: its blocks must not change."""
        return self._commit is not None

    async def settle(self) -> None:
        """Before further changes: end a commit that was begun, or find out what has become of one
        that was discarded. Raises as `flush` and `reach`."""
        if self._commit is not None:
            await self.flush()
        if self._unknown:
            await self.reach()

    # -- changes ------------------------------------------------------------------------------

    async def take_back(self, *indexes: int) -> None:
        """Have these blocks in memory, if they were written ahead, so that they can be changed."""
        for index in indexes:
            if index in self.flights:
                # What is being uploaded must not change under way.
                block = self.dirty.blocks[index]
                written = None if block.written is None else block.written.copy()
                self.dirty.blocks[index] = DirtyBlock(bytes(block.data), written)
                self.flights.drop(index, index + 1)
            elif index in self.ahead:
                block = await self.ahead.take_back(index, self.content.sources)
                self.dirty.blocks[index] = block

    def drop(self, first: int, end: int) -> None:
        """The blocks `[first, end)` have no use for what was written ahead of them."""
        self.flights.drop(first, end)
        self.ahead.drop(first, end)

    def clear(self, first: int, end: int) -> None:
        """Make holes of whole blocks."""
        self.drop(first, end)
        self.dirty.clear(first, end)

    def check_room(self, new_blocks: int) -> None:
        """Whether so many more blocks fit the checkpoint. Raises `CheckpointTooLarge`."""
        check_room(
            *(self.content, self.dirty, new_blocks),
            part_bytes=self._options.part_bytes,
            key=self._key,
        )

    async def write_ahead(self) -> None:
        """Put changes on the store, unpublished, when they take up too much memory.

        Uploads begin at half of the bound and go on beside further changes, which wait only at
        the bound itself. Raises `CheckpointTooLarge`, `FormatError`, and the store's errors; the
        changes are then still in memory, all or in part.
        """
        if not self.state.inode.meta.pointer_format.parted:
            return
        bound, flights = self._options.dirty_bytes, self.flights
        while True:
            while self._may_begin(bound // 2) and self._begin_part(whole=True):
                pass
            if self.dirty.memory_bytes + flights.outdated_bytes <= bound:
                return
            if flights or flights.failed:
                await flights.wait()
                continue
            # Only partial blocks are left. They cost a read each, and are told apart in a conflict.
            await complete_blocks(self.content, self.dirty, sorted(self.dirty.blocks))
            while self._may_begin(0) and self._begin_part(whole=False):
                pass

    def _may_begin(self, waiting_bytes: int) -> bool:
        """Whether there is a place for one more upload, and more than so many bytes of changed
        blocks wait for one."""
        flights = self.flights
        waiting = self.dirty.memory_bytes - flights.current_bytes
        return (
            waiting > waiting_bytes and len(flights) < self._options.uploads and not flights.failed
        )

    def _begin_part(self, *, whole: bool) -> bool:
        """Begin to upload the changes that came first; whether there were any.

        With `whole`, only blocks of which all bytes are ours.
        """
        dirty, flights = self.dirty, self.flights
        candidates = (
            index
            for index, block in dirty.blocks.items()
            if index not in flights and (block.written is None or not whole)
        )
        chosen = sorted(islice(candidates, self._part_blocks))
        blocks = []
        for index in chosen:
            dirty.settle_zeros(index)
            block = dirty.blocks.get(index)
            if block is not None:
                blocks.append(AheadBlock(index, block.data, block.written))
        if blocks:
            number = self.state.last_number + 1
            if number > MAX_CHECKPOINT:
                raise CheckpointsExhausted(self._key)
            identity = self._part_identity(number, fingerprint(self.state.stored))
            flights.begin(dirty, blocks, identity)
        return bool(chosen)

    @property
    def _part_blocks(self) -> int:
        """Data blocks of the next part: more and more, so that part numbers last."""
        options, meta = self._options, self.state.inode.meta
        number = self.state.last_number + 1
        grown = options.ahead_bytes << self.ahead.next_part(number) // _PARTS_OF_A_SIZE
        limit = min(grown, options.dirty_bytes // 2, options.part_bytes)
        return max(max_data_blocks(meta, 0, limit), 1)

    def discard(self) -> None:
        """Forget all changes. Those of a commit that was begun may be on the store all the same:
        `settle` finds out."""
        if self._commit is not None and self._commit.may_have_landed:
            self._unknown = True
            self.ahead.reset(abandoned=False)
        else:
            self.ahead.reset(abandoned=True)
        self.flights.abandon()
        self._commit = self._build = None
        self._dirty = DirtyState(self.content.size, self.content.inode.meta.data_block_size)

    async def end(self) -> None:
        """Take away what nobody needs of what was written ahead, as far as the store lets us."""
        await self.flights.end()
        await self.ahead.remove_garbage()

    # -- flush --------------------------------------------------------------------------------

    async def flush(self) -> CommitResult | None:
        """Commit all changes as one checkpoint; None when there are none.

        Raises `ConflictError`, `NoSuchContainer`, `CheckpointsExhausted`, `CheckpointTooLarge`,
        `FormatError`, and the store's errors. After those of the store, call it again.
        """
        conflict: ConflictError | None = None
        await self.flights.land()
        for _ in range(_MAX_REBASES):
            if self._commit is None:
                if not self.dirty:
                    await self.ahead.remove_garbage()
                    return None
                if self._outdated:
                    if self._options.on_conflict == "fail":
                        raise conflict or ConflictError(
                            "another writer has changed the container; discard the changes and "
                            f"refresh, or open with on_conflict='retry' key={self._key}"
                        )
                    await self._rebase()
                await self._begin_commit()
            assert self._commit is not None
            try:
                committed = await self._commit.run()
            except ConflictError as error:
                if self._commit.may_have_landed and self._build is not None:
                    self.ahead.hold(self._build.number)
                self._commit = self._build = None
                self._outdated, conflict = True, error
                continue
            result = self._adopt_commit(committed)
            await self.ahead.remove_garbage()
            return result
        assert conflict is not None
        raise conflict

    async def _rebase(self) -> None:
        """Put the changes on top of the newest state."""
        # What is not all ours was completed with what the old state held.
        await self.take_back(*self.ahead.partly_ours)
        meta = self.state.inode.meta
        state = await self._reach_state()
        if state.inode.meta != meta:
            raise ConflictError(
                f"another container with other block sizes stands there now key={self._key}"
            )
        await self._go_to(state)
        self.dirty.rebase(self.content.size)

    async def _begin_commit(self) -> None:
        if self.state.last_number >= MAX_CHECKPOINT:
            raise CheckpointsExhausted(self._key)
        now_ns = int(self._clock.time() * _NANOSECONDS)
        build = await prepare_build(
            *(self.content, self.dirty, self.ahead, now_ns), part_bytes=self._options.part_bytes
        )
        self._build = build
        self._commit = CheckpointCommit(
            *(self._store, self.state, build),
            now_ns=now_ns,
            writer_id=self._writer_id,
            position=0,
            new_mark=self._new_mark,
            parts=FileParts(
                *(self._store, self._key, build),
                ahead=self.ahead,
                sources=self.content.sources,
                identity=self._part_identity,
                new_mark=self._new_mark,
            ),
        )

    def _part_identity(self, number: int, base: int) -> ObjectIdentity:
        """What a part says that is written before the checkpoint's inode is known."""
        now_ns = int(self._clock.time() * _NANOSECONDS)
        inode = changed_inode(self.state.inode, self.dirty, now_ns)
        inode = replace(inode, last_seq=number, last_cno=number)
        return ObjectIdentity(number, 0, base, inode.encode(), self._writer_id)

    def _new_mark(self) -> str:
        return ulid(self._clock, self._rng)

    def _adopt_commit(self, committed: Committed) -> CommitResult:
        build = self._build
        assert build is not None
        inode = decode_inode(committed.stored, source=inode_key(self._key))
        nodes = self.content.sources.nodes
        for pointer, node in build.placed_nodes():
            nodes.keep(pointer, node)
        uploaded = build.object_bytes + self.ahead.uploaded_bytes
        self._adopt_state(
            with_inode(self.state, committed.stored, inode, committed.etag, build.number),
            self.content.sources,
        )
        self._outdated = committed.superseded
        self.ahead.reset(abandoned=False)
        self._dirty = DirtyState(inode.size, inode.meta.data_block_size)
        self._commit = self._build = None
        return CommitResult(build.number, inode.size, uploaded)


async def reach_or_create(
    publisher: Publisher,
    store: Store,
    key: str,
    mode: Mode,
    *,
    clock: Clock,
    rng: random.Random,
    options: FileOptions,
) -> None:
    """Have a publisher go to the newest state of a container that a mode may create.

    Raises `NoSuchContainer` (`r+`), `ContainerExists` (`x`), and as `Publisher.reach` and
    `create_container`.
    """
    if mode == "x":
        await create_container(store, key, options, clock=clock, rng=rng)
    try:
        await publisher.reach()
    except NoSuchContainer:
        if mode not in ("w", "a"):
            raise
        try:
            await create_container(store, key, options, clock=clock, rng=rng)
        except ContainerExists:
            pass  # somebody else was faster, and it is there
        await publisher.reach()
