"""The commit of one checkpoint: create its object, then swap the inode.

It is a small state machine that can be run again after any failure. Every refusal is first taken
for a lost answer, then for something harmless (a number taken by other bytes, a compaction
attached to the inode), and only then for another writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hf_agent.hyperfile.errors import (
    CheckpointsExhausted,
    ConflictError,
    FormatError,
    NoSuchContainer,
)
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.history import ancestors, read_checkpoints
from hf_agent.hyperfile.inode import FLAG_COMPACTION, MAX_CHECKPOINT, decode_inode, with_flags
from hf_agent.hyperfile.keys import checkpoint_key, inode_key
from hf_agent.hyperfile.opening import FoundCheckpoint, State, reach_state
from hf_agent.hyperfile.refused_write import object_is_ours
from hf_agent.hyperfile.stored_trailer import read_trailer
from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import Body, Store, StoreConflict, StoreNotFound, StoreRetry

__all__ = ["CheckpointCommit", "CommitBuild", "CommitParts", "Committed"]

_MAX_SWAPS = 8
"""Tries of the swap while only compactions change the inode, before the caller's backoff."""
_SEALED_INLINE_BYTES = 256 << 10
"""Smaller builds are sealed faster than a thread would begin to."""
_MAX_STEPS_BACK = 1000
"""Checkpoint numbers looked at to find ours below the state of another writer."""


class CommitBuild(Protocol):
    """What a commit publishes."""

    @property
    def number(self) -> int:
        """The checkpoint number that it is sealed for; 0 when it is not sealed."""
        ...

    @property
    def inode_bytes(self) -> bytes:
        """The inode that goes with it; once sealed."""
        ...

    @property
    def object(self) -> Body:
        """The object that is the checkpoint; once sealed."""
        ...

    @property
    def object_bytes(self) -> int:
        """How much there is to seal."""
        ...

    def seal(self, *, number: int, base: int, now_ns: int, writer_id: bytes, position: int) -> None:
        """Make the checkpoint ready under a number; may be called again, from any thread."""
        ...


class CommitParts(Protocol):
    """The other objects of a checkpoint, which are written before the one that is the checkpoint.

    Both methods may be called again after they raised, and for another number.
    """

    async def prepare(self, number: int, base: int) -> None:
        """See to it that what was written ahead are parts of that checkpoint."""
        ...

    async def create(self) -> bool:
        """Create those of the sealed build; False when it has to be sealed anew first."""
        ...


@dataclass(frozen=True, slots=True)
class Committed:
    """How the container's inode stands after a commit."""

    stored: bytes
    """Our inode; with bit 0x8 when a compaction has been attached to it since."""
    etag: str
    superseded: bool
    """Whether another writer has already committed on top of ours."""


class CheckpointCommit:
    """Commits a build on the state that it was made for. `run` until it returns."""

    def __init__(
        self,
        store: Store,
        state: State,
        build: CommitBuild,
        *,
        now_ns: int,
        writer_id: bytes,
        position: int,
        new_mark: Callable[[], str],
        parts: CommitParts | None = None,
    ) -> None:
        self.position = position
        self._store = store
        self._key = state.key
        self._pointer_format = state.inode.meta.pointer_format
        self._build = build
        self._parts = parts
        self._now_ns = now_ns
        self._writer_id = writer_id
        self._new_mark = new_mark
        self._number = state.last_number + 1
        self._stored = state.stored
        self._etag = state.etag
        self._object_mark = new_mark()
        self._inode_mark = new_mark()
        self._created = False
        self._tried = False

    @property
    def may_have_landed(self) -> bool:
        """Whether the checkpoint object may be on the store."""
        return self._tried

    async def run(self) -> Committed:
        """Do what is left to do. Raises as `Appender.commit`."""
        while not self._created:
            await self._create_object()
        for _ in range(_MAX_SWAPS):
            committed = await self._swap_inode()
            if committed is not None:
                return committed
        raise StoreRetry(f"the inode keeps changing under the commit key={self._key}")

    # -- the checkpoint object ----------------------------------------------------------------

    async def _create_object(self) -> None:
        build = self._build
        if build.number != self._number:
            if self._parts is not None:
                await self._parts.prepare(self._number, fingerprint(self._stored))
            await self._seal()
        while self._parts is not None and not await self._parts.create():
            await self._seal()
        key = checkpoint_key(self._key, build.number, self._pointer_format)
        self._tried = True
        try:
            await self._store.create(key, build.object, metadata={WRITE_MARK: self._object_mark})
        except StoreConflict as refused:
            if not await object_is_ours(self._store, key, build.object, self._object_mark):
                self._tried = False
                await self._skip_taken_number(refused)
                return
        self._created = True

    async def _seal(self) -> None:
        seal = partial(
            self._build.seal,
            number=self._number,
            base=fingerprint(self._stored),
            now_ns=self._now_ns,
            writer_id=self._writer_id,
            position=self.position,
        )
        if self._build.object_bytes < _SEALED_INLINE_BYTES:
            seal()
        else:
            # Checksums of a large build take a while; the event loop has other work.
            await asyncio.to_thread(seal)

    async def _skip_taken_number(self, refused: StoreConflict) -> None:
        """Somebody else's object has our number: a commit that came before ours, or nothing."""
        state = await reach_state(self._store, self._key, checked=False)
        if not _same_but_for_compaction(state.stored, self._stored):
            raise await self._conflict("the inode has been replaced", state.taken_up) from refused
        if state.taken_up:
            raise await self._conflict("a commit came first", state.taken_up) from refused
        number = max(state.last_number, self._number) + 1
        if number > MAX_CHECKPOINT:
            raise CheckpointsExhausted(self._key)
        self._number, self._object_mark = number, self._new_mark()
        self._stored, self._etag = state.stored, state.etag

    # -- the inode ----------------------------------------------------------------------------

    async def _swap_inode(self) -> Committed | None:
        """One try; None when the inode was changed in a way that does not matter."""
        build, name = self._build, inode_key(self._key)
        try:
            etag = await self._store.replace(
                name, build.inode_bytes, etag=self._etag, metadata={WRITE_MARK: self._inode_mark}
            )
        except StoreNotFound as error:
            raise NoSuchContainer(self._key) from error
        except StoreConflict as refused:
            return await self._after_refused_swap(refused)
        return Committed(build.inode_bytes, etag, superseded=False)

    async def _after_refused_swap(self, refused: StoreConflict) -> Committed | None:
        build, name = self._build, inode_key(self._key)
        try:
            answer = await self._store.get(name)
        except StoreNotFound as error:
            raise NoSuchContainer(self._key) from error
        if _same_but_for_compaction(answer.data, build.inode_bytes):
            # The answer was lost, or somebody has finished our commit for us.
            return Committed(answer.data, answer.info.etag, superseded=False)
        if _same_but_for_compaction(answer.data, self._stored):
            if answer.info.etag == self._etag:
                raise StoreRetry(
                    f"another write of the object is in progress key={name}"
                ) from refused
            # A compaction was attached: build on that inode, which drops it.
            self._stored, self._etag = answer.data, answer.info.etag
            return None
        if await self._is_below(answer.data):
            return Committed(build.inode_bytes, answer.info.etag, superseded=True)
        raise await self._conflict("the inode has been replaced", ()) from refused

    async def _is_below(self, stored: bytes) -> bool:
        """Whether the state `stored` was built on our checkpoint, which is then committed."""
        inode = decode_inode(stored, source=inode_key(self._key))
        ours = self._build.number
        numbers = range(inode.last_cno, max(inode.last_cno - _MAX_STEPS_BACK, ours - 1), -1)
        checkpoints = read_checkpoints(self._store, self._key, numbers, inode.meta.pointer_format)
        async for found in ancestors(checkpoints, inode.last_cno):
            if found.header.checkpoint == ours:
                return found.header.inode == self._build.inode_bytes
        return False

    async def _conflict(self, what: str, taken_up: tuple[FoundCheckpoint, ...]) -> ConflictError:
        trailer = None
        if taken_up:
            found = taken_up[-1]
            try:
                trailer = await read_trailer(
                    self._store, found.info.key, found.header, found.info.size
                )
            except FormatError:
                trailer = None  # a damaged trailer names nobody; the conflict stands
        return ConflictError(
            f"another writer has changed the container: {what} key={self._key} "
            f"checkpoint={self._build.number}",
            checkpoint=taken_up[-1].header.checkpoint if taken_up else None,
            trailer=trailer,
        )


def _same_but_for_compaction(left: bytes, right: bytes) -> bool:
    return len(left) == len(right) and with_flags(left, clear=FLAG_COMPACTION) == with_flags(
        right, clear=FLAG_COMPACTION
    )
