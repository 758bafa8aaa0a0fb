"""Connects a stream to its container, and finds out what the store already has.

That is never guessed from the size of a file. After a restart:

- the container's inode still has the fingerprint of the bind record: nothing was written since;
- the newest checkpoint is ours, by its trailer: exactly the position it names is committed;
- the container was never in the state that the bind names, and holds nothing of ours: another
  writer was faster to create it, and it is bound to afresh, like any that is there already;
- anything else: another writer has written there, and this one has lost the conditional write.
  What was committed before is read from the history of the container, and the stream goes on in
  a sibling container. It stays there; should another writer turn up in the sibling too, the
  stream is bound again behind what that one wrote, so one conflict never leads to many siblings.

The bind record is durable in the WAL before the first write to a container.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

import structlog

from hf_agent.clock import Clock, ulid
from hf_agent.flusher.own_commits import OwnCommits
from hf_agent.hyperfile import ContainerExists, NoSuchContainer, fingerprint
from hf_agent.hyperfile.appender import Appender
from hf_agent.store.base import Store, StoreRetry
from hf_agent.streams.bind import Bind, decode_bind, encode_bind
from hf_agent.streams.key import StreamKeys, conflict_key
from hf_agent.streams.repaired import Repaired, decode_repaired, is_repaired
from hf_agent.wal import StreamView, Wal

__all__ = ["Attached", "Attacher"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attached:
    """A stream and its container."""

    appender: Appender
    bind: Bind
    committed: int
    """Stream position up to which the store has everything."""


class _Standing(Enum):
    """How a bound container turned out to be."""

    OURS = "nobody else has written to it since the bind"
    ABSENT = "it is not there"
    UNUSED = "it was never in the state that was bound to, and holds nothing of ours"
    FOREIGN = "another writer has written to it since the bind"


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What a bound container turned out to be, and to hold of the stream."""

    standing: _Standing
    appender: Appender | None
    """None when the container is not there."""
    committed: int


class Attacher:
    """Attaches streams. One for all streams."""

    def __init__(
        self,
        *,
        wal: Wal,
        store: Store,
        root: str,
        keys: StreamKeys,
        block_size: int,
        clock: Clock,
        rng: random.Random,
        durable: Callable[[int], Awaitable[None]],
        on_conflict: Callable[[str, str], None],
    ) -> None:
        """To be made before anything is appended to `wal`.

        `durable` waits for a batch of it. `on_conflict` is told of each true conflict: the stream,
        and the key of the container that it goes on in.
        """
        self._wal = wal
        self._store = store
        self._root = root
        self._keys = keys
        self._block_size = block_size
        self._clock = clock
        self._rng = rng
        self._durable = durable
        self._on_conflict = on_conflict
        self.own_commits = OwnCommits(wal)
        self._told: set[str] = set()
        """Streams whose conflict in a sibling was logged in this process's life."""

    async def attach(self, name: str) -> Attached:
        """Open (or create) the container of a stream and find its committed position.

        Raises the store's errors and `HyperfileError` for a container that cannot be appended to.
        """
        view = self._wal.stream(name)
        if view is None:
            raise LookupError(f"stream is not in the WAL stream={name!r}")
        origin = self._keys.key(name)
        note = view.note
        if is_repaired(note):
            repaired = decode_repaired(note)
            attached = await self._attach_repaired(view, origin, repaired)
            if attached is not None:
                return attached
            note = repaired.bind
        if not note:
            return await self._bind_first(name, origin, view.committed)
        bind = decode_bind(note)
        if bind.root != self._root:
            # The configuration points at another store now. What the old one has beyond the
            # position known here cannot be asked any more; stored again is better than lost.
            _log.warning("store changed", stream=name, old=bind.root, new=self._root)
            return await self._bind_first(name, origin, view.committed)
        found = await self._resolve(bind, view)
        if bind.origin != origin:
            _log.info("key changed", stream=name, old=bind.origin, new=origin)
            return await self._bind_first(name, origin, found.committed)
        if found.appender is None:
            return await self._create(name, bind.key, origin, found.committed)
        if found.standing is _Standing.OURS:
            return Attached(found.appender, bind, found.committed)
        if found.standing is _Standing.UNUSED:
            return await self._bind(name, found.appender, origin, found.committed)
        if bind.diverted:
            return await self._stay(name, found.appender, bind, found.committed)
        return await self._divert(name, bind, found.committed)

    async def _attach_repaired(
        self, view: StreamView, origin: str, repaired: Repaired
    ) -> Attached | None:
        """Attach a stream whose log was repaired, by what its container says of it.

        None when the container says nothing: then the last bind that is left decides, if any.
        """
        bind = decode_bind(repaired.bind) if repaired.bind else None
        if bind is not None and bind.root != self._root:
            return None
        key = origin if bind is None else bind.key
        appender = await self._open(key)
        trailer = None if appender is None else appender.latest_trailer
        if trailer is not None and trailer.writer_id == self._wal.id:
            lowest = 0 if bind is None else bind.position
            if lowest <= trailer.position <= repaired.most:
                reached = trailer.position
            else:
                return None
        elif bind is not None and bind.position > repaired.end:
            reached = bind.position  # it was bound behind bytes that are lost
        else:
            return None
        # What the store has beyond the log's end is what the log has lost; its positions are given
        # to other bytes from now on, so the stream is bound anew, behind them.
        committed = max(view.committed, min(reached, repaired.end))
        _log.info(
            "attached after a repair",
            stream=view.name,
            container=key,
            stored=reached,
            end=repaired.end,
        )
        if appender is None or (bind is not None and bind.origin != origin):
            return await self._bind_first(view.name, origin, committed)
        return await self._bind(view.name, appender, origin, committed)

    async def _open(self, key: str) -> Appender | None:
        try:
            return await Appender.open(
                self._store, key, clock=self._clock, rng=self._rng, writer_id=self._wal.id
            )
        except NoSuchContainer:
            return None

    async def _resolve(self, bind: Bind, view: StreamView) -> _Resolved:
        known = max(bind.position, view.committed)
        appender = await self._open(bind.key)
        if appender is None:
            return _Resolved(_Standing.ABSENT, None, known)
        if bind.fingerprint in (appender.fingerprint, appender.fingerprint_without_compaction):
            return _Resolved(_Standing.OURS, appender, known)
        ours = await self.own_commits.find(view.name, bind, appender, view.durable)
        committed = known if ours.position is None else max(ours.position, view.committed)
        if ours.last:
            return _Resolved(_Standing.OURS, appender, committed)
        if bind.offset == 0 and known == bind.position and not ours.bound:
            # The bind was for a creation, and that is not how the container began.
            return _Resolved(_Standing.UNUSED, appender, known)
        return _Resolved(_Standing.FOREIGN, appender, committed)

    async def _bind_first(self, name: str, key: str, committed: int) -> Attached:
        """Bind a stream to a container that it was not bound to before, creating it if need be."""
        appender = await self._open(key)
        if appender is None:
            return await self._create(name, key, key, committed)
        return await self._bind(name, appender, key, committed)

    async def _bind(self, name: str, appender: Appender, origin: str, committed: int) -> Attached:
        """Bind a stream to the end of a container that is there."""
        bind = Bind(
            self._root, appender.key, origin, committed, appender.size, appender.fingerprint
        )
        await self._log_bind(name, bind)
        return Attached(appender, bind, committed)

    async def _create(self, name: str, key: str, origin: str, committed: int) -> Attached:
        inode = Appender.prepare_inode(self._clock.time(), self._block_size)
        bind = Bind(self._root, key, origin, committed, 0, fingerprint(inode))
        # Bound before it exists: a crash in between leaves a bind to nothing, which is harmless,
        # where the other order could leave a container that nobody knows to be ours.
        await self._log_bind(name, bind)
        try:
            appender = await Appender.create(
                self._store,
                key,
                inode,
                clock=self._clock,
                rng=self._rng,
                writer_id=self._wal.id,
                mark=ulid(self._clock, self._rng),
            )
        except ContainerExists as refused:
            # Somebody created it a moment ago: theirs is opened like any other.
            existing = await self._open(key)
            if existing is None:
                raise StoreRetry(
                    f"the container comes and goes; is it being removed? key={key}"
                ) from refused
            return await self._bind(name, existing, origin, committed)
        if appender.fingerprint != bind.fingerprint:
            # Created by us, and already written to by somebody else: ours begins behind that.
            return await self._bind(name, appender, origin, committed)
        return Attached(appender, bind, committed)

    async def _divert(self, name: str, bind: Bind, committed: int) -> Attached:
        """Go on in a sibling. Happens once: from then on the stream is bound to that."""
        key = conflict_key(bind.origin, ulid(self._clock, self._rng))
        _log.error(
            "conflict: another writer has written to this stream's container; the stream goes on "
            "in a sibling. Find the other writer: two agents may share a node name or a copied "
            "configuration",
            stream=name,
            container=bind.key,
            sibling=key,
            committed=committed,
        )
        self._on_conflict(name, key)
        return await self._create(name, key, bind.origin, committed)

    async def _stay(self, name: str, appender: Appender, bind: Bind, committed: int) -> Attached:
        """Go on in the sibling behind what somebody else wrote there."""
        if name not in self._told:
            self._told.add(name)
            _log.error(
                "conflict: another writer has written to the sibling container that this stream "
                "was sent to; the stream goes on in it, behind what that one wrote. Find the "
                "other writer",
                stream=name,
                container=bind.key,
                committed=committed,
            )
        self._on_conflict(name, bind.key)
        return await self._bind(name, appender, bind.origin, committed)

    async def _log_bind(self, name: str, bind: Bind) -> None:
        await self._durable(self._wal.note(name, encode_bind(bind)))
