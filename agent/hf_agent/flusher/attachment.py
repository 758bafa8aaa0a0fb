"""Connects a stream to its container, and finds out what the store already has.

That is never guessed from the size of a file. After a restart:

- the container's inode still has the fingerprint of the bind record: nothing was written since;
- the newest checkpoint carries this WAL's id: exactly the position it names is committed;
- anything else: somebody else has written there. What we committed before is read from the
  history of the container, and the stream goes on in a sibling container.

The bind record is durable in the WAL before the first write to a container.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile import ConflictError, NoSuchContainer, fingerprint
from hf_agent.hyperfile.appender import Appender
from hf_agent.store.base import Store
from hf_agent.streams.bind import Bind, decode_bind, encode_bind
from hf_agent.streams.key import StreamKeys, conflict_key
from hf_agent.wal import StreamView, Wal

__all__ = ["Attached", "Attacher"]

_HISTORY_STEPS = 1000
"""Checkpoints looked at, back from the newest, for our last one before a foreign writer's."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attached:
    """A stream and its container."""

    appender: Appender
    bind: Bind
    committed: int
    """Stream position up to which the store has everything."""


@dataclass(frozen=True, slots=True)
class _Resolved:
    """What a bound container turned out to hold of the stream."""

    appender: Appender | None
    """None when the container is not there."""
    committed: int
    foreign: bool


class Attacher:
    """Attaches streams. One for all streams; it keeps no state of theirs."""

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
        self._wal = wal
        self._store = store
        self._root = root
        self._keys = keys
        self._block_size = block_size
        self._clock = clock
        self._rng = rng
        self._durable = durable
        self._on_conflict = on_conflict

    async def attach(self, name: str) -> Attached:
        """Open (or create) the container of a stream and find its committed position.

        Raises the store's errors and `HyperfileError` for a container that cannot be appended to.
        """
        view = self._wal.stream(name)
        if view is None:
            raise LookupError(f"stream is not in the WAL stream={name!r}")
        origin = self._keys.key(name)
        if not view.note:
            return await self._bind_first(name, origin, view.committed)
        bind = decode_bind(view.note)
        if bind.root != self._root:
            # The configuration points at another store now. What the old one has beyond the
            # position known here cannot be asked any more; stored again is better than lost.
            _log.warning("store changed", stream=name, old=bind.root, new=self._root)
            return await self._bind_first(name, origin, view.committed)
        resolved = await self._resolve(bind, view)
        if bind.origin != origin:
            _log.info("key changed", stream=name, old=bind.origin, new=origin)
            return await self._bind_first(name, origin, resolved.committed)
        if resolved.foreign:
            return await self._divert(name, bind, resolved.committed)
        if resolved.appender is None:
            return await self._create(name, bind.key, origin, resolved.committed)
        return Attached(resolved.appender, bind, resolved.committed)

    async def _open(self, key: str) -> Appender | None:
        try:
            return await Appender.open(
                self._store, key, clock=self._clock, rng=self._rng, writer_id=self._wal.id
            )
        except NoSuchContainer:
            return None

    async def _resolve(self, bind: Bind, view: StreamView) -> _Resolved:
        appender = await self._open(bind.key)
        if appender is None:
            return _Resolved(None, max(bind.position, view.committed), foreign=False)
        if bind.fingerprint in (appender.fingerprint, appender.fingerprint_without_compaction):
            return _Resolved(appender, max(bind.position, view.committed), foreign=False)
        trailer = appender.latest_trailer
        if (
            trailer is not None
            and trailer.writer_id == self._wal.id
            and bind.position <= trailer.position <= view.durable
            and appender.size == bind.offset + trailer.position - bind.position
        ):
            return _Resolved(appender, max(trailer.position, view.committed), foreign=False)
        ours = await appender.trailer_in_history(self._wal.id, limit=_HISTORY_STEPS)
        committed = bind.position
        if ours is not None and bind.position <= ours.position <= view.durable:
            committed = ours.position
        return _Resolved(None, max(committed, view.committed), foreign=True)

    async def _bind_first(self, name: str, key: str, committed: int) -> Attached:
        """Bind a stream to a container that it was not bound to before, creating it if need be."""
        appender = await self._open(key)
        if appender is None:
            return await self._create(name, key, key, committed)
        bind = Bind(self._root, key, key, committed, appender.size, appender.fingerprint)
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
        except ConflictError:
            # Somebody created it a moment ago: theirs is opened like any other.
            return await self._bind_first(name, key, committed)
        return Attached(appender, bind, committed)

    async def _divert(self, name: str, bind: Bind, committed: int) -> Attached:
        key = conflict_key(bind.origin, ulid(self._clock, self._rng))
        _log.error(
            "conflict: another writer has written to this stream's container; the stream goes on "
            "in a sibling. Find the other writer: two agents may share a node name or a copied WAL",
            stream=name,
            container=bind.key,
            sibling=key,
            committed=committed,
        )
        self._on_conflict(name, key)
        return await self._create(name, key, bind.origin, committed)

    async def _log_bind(self, name: str, bind: Bind) -> None:
        await self._durable(self._wal.note(name, encode_bind(bind)))
