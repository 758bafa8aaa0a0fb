"""The agent's sink: appends go to the WAL here, and everybody who waits for one is told here.

Runs on the event loop's thread only. The WAL's writer thread reaches it through
`loop.call_soon_threadsafe`. It holds no payload: what is taken belongs to the WAL at once.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from hf_agent.clock import Clock
from hf_agent.ingest.sink import NO_CHUNKS, Buffer, Chunks, Mark, Receipt, Rejected
from hf_agent.metrics import Metrics
from hf_agent.streams.bind import decode_bind
from hf_agent.streams.chunk_marks import chunk_mark, progress_of
from hf_agent.streams.producer_marks import known_of, producer_mark
from hf_agent.streams.repaired import decode_repaired, is_repaired
from hf_agent.streams.state import StreamState
from hf_agent.streams.waiters import BatchWaiters
from hf_agent.wal import RecordTooLarge, TooManyStreams, Wal, WalError, WalState

__all__ = ["FlushTrigger", "Intake"]


_LARGE = 16 << 10
"""An append of this size is worth waking the writer for at once."""


class FlushTrigger(Protocol):
    """What the intake tells the flusher."""

    def dirty(self, name: str) -> None:
        """The stream has its first byte that the store does not have."""

    def urge(self, name: str, *, force: bool = False) -> None:
        """Flush the stream now; with `force` also while the store is being left alone."""


class Intake:
    """Takes appends for every stream. Implements `hf_agent.ingest.sink.Sink`."""

    def __init__(
        self,
        wal: Wal,
        *,
        clock: Clock,
        metrics: Metrics,
        flush_bytes: int,
        when_full: Literal["block", "reject"],
        max_chunk_age: float = 3600.0,
    ) -> None:
        """Chunks are known again for `max_chunk_age` seconds."""
        self._wal = wal
        self._clock = clock
        self._metrics = metrics
        self._reject_when_full = when_full == "reject"
        self._max_chunk_age = max_chunk_age
        self._trigger: FlushTrigger | None = None
        self._durable = BatchWaiters()
        self._last_batch = wal.durable_batch
        self._go_scheduled = False
        self._raised: dict[str, int] = {}
        """The batch of each producer whose mark was raised alone, until that is durable."""
        self._room: deque[Callable[[], None]] = deque()
        self.flush_bytes = flush_bytes
        self.status_source: Callable[[], dict[str, Any]] = dict
        """Gives what `status` answers; the service puts its own in."""
        self.states: dict[str, StreamState] = {}
        for view in wal.streams():
            state = StreamState(view.name, view.position, view.committed)
            if state.unflushed:
                state.since = wal.oldest_time or clock.time()
            _recall(state, view.note)
            self.states[view.name] = state

    # -- appends ---------------------------------------------------------------------------

    def accepts(self) -> bool:
        """See `Sink.accepts`."""
        if self._wal.accepts():
            return True
        state = self._wal.state.kind
        # The append itself must then be made, to be refused with the reason.
        return state in ("failed", "closed") or (state == "full" and self._reject_when_full)

    def notify_room(self, callback: Callable[[], None]) -> None:
        """See `Sink.notify_room`."""
        self._room.append(callback)

    def check_stream(self, stream: str) -> None:
        """See `Sink.check_stream`: there is none that the log would not take."""

    def append(
        self,
        stream: str,
        data: Buffer,
        *,
        records: int,
        mark: Mark | None,
        chunks: Chunks = NO_CHUNKS,
    ) -> Receipt:
        """See `Sink.append`."""
        wal = self._wal
        if self._reject_when_full:
            self._check_not_full()
        marks: Mapping[str | bytes, int] | Sequence[tuple[str, int]] = ()
        if mark is not None:
            marks = ((mark.producer, producer_mark(mark)),)
        elif chunks:
            marks = self._chunk_marks(chunks)
        try:
            appended = wal.append(stream, data, marks=marks)
        except WalError as error:
            raise _refusal(error) from error
        self._last_batch = appended.batch
        if len(data) >= _LARGE:
            wal.go()
        elif not self._go_scheduled:
            self._go_soon()
        self._grown(stream, appended.position)
        return Receipt(appended.batch, appended.position)

    def append_all(
        self, parts: Sequence[tuple[str, Buffer]], *, mark: Mark | None
    ) -> list[Receipt]:
        """See `Sink.append_all`."""
        self._check_not_full()
        marks = () if mark is None else ((mark.producer, producer_mark(mark)),)
        try:
            appended = self._wal.append_all(parts, marks=marks)
        except WalError as error:
            raise _refusal(error) from error
        self._last_batch = appended[0].batch
        self._go_soon()
        for (stream, _), (_, position) in zip(parts, appended, strict=True):
            self._grown(stream, position)
        return [Receipt(batch, position) for batch, position in appended]

    def raise_mark(self, mark: Mark) -> int:
        """See `Sink.raise_mark`."""
        producer, value = mark.producer, producer_mark(mark)
        if value <= self._wal.last_mark(producer):
            return self._raised.get(producer, self._wal.durable_batch)
        self._check_not_full()
        try:
            batch = self._wal.mark([(producer, value)])
        except WalError as error:
            raise _refusal(error) from error
        self._last_batch = self._raised[producer] = batch
        self.notify_durable(batch, functools.partial(self._mark_is_durable, producer, batch))
        self._go_soon()
        return batch

    def _mark_is_durable(self, producer: str, batch: int) -> None:
        if self._raised.get(producer) == batch:
            del self._raised[producer]

    def _check_not_full(self) -> None:
        state = self._wal.state
        if self._reject_when_full and state.kind == "full":
            raise Rejected("wal_full", f"the WAL is full: {state.reason}", permanent=False)

    def _go_soon(self) -> None:
        """Have it written after what else this turn of the loop brings: it becomes one batch."""
        if not self._go_scheduled:
            self._go_scheduled = True
            asyncio.get_running_loop().call_soon(self._go)

    def _grown(self, stream: str, position: int) -> None:
        """The stream reaches to `position` now."""
        state = self.states.get(stream)
        if state is None:
            state = self.states[stream] = StreamState(stream, 0, 0, resolved=False)
        state.position = position
        if not state.since:
            state.since = self._clock.time()
            if self._trigger is not None:
                self._trigger.dirty(stream)
        if position - state.committed >= self.flush_bytes and self._trigger is not None:
            self._trigger.urge(stream)

    def _go(self) -> None:
        self._go_scheduled = False
        if self._wal.go(here=self._tell):
            self.wake_room()

    def known(self, producer: str) -> Mark:
        """See `Sink.known`."""
        return known_of(producer, self._wal.last_mark(producer))

    def position(self, stream: str) -> int:
        """See `Sink.position`."""
        state = self.states.get(stream)
        return 0 if state is None else state.position

    def chunk_progress(self, key: bytes) -> int:
        """See `Sink.chunk_progress`."""
        mark = self._wal.last_mark(key)
        # Most are new, and are asked for one by one.
        return progress_of(mark, self._clock.time(), self._max_chunk_age) if mark else 0

    def knows_none(self, keys: Collection[bytes]) -> bool:
        """See `Sink.knows_none`."""
        return self._wal.knows_none(keys)

    def _chunk_marks(self, chunks: Chunks) -> dict[str | bytes, int]:
        now = self._clock.time()
        if self._wal.knows_none(chunks):
            marks = {progress: chunk_mark(0, progress, now) for progress in set(chunks.values())}
            return {key: marks[progress] for key, progress in chunks.items()}
        last = self._wal.last_mark
        return {key: chunk_mark(last(key), progress, now) for key, progress in chunks.items()}

    def barrier(self) -> int:
        """See `Sink.barrier`."""
        return self._last_batch

    # -- word of durability ----------------------------------------------------------------

    def notify_durable(self, batch: int, callback: Callable[[], None]) -> None:
        """See `Sink.notify_durable`."""
        if batch <= self._wal.durable_batch:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._durable.add(batch, callback)

    async def durable(self, batch: int) -> None:
        """Return when `batch` is durable; never if the WAL fails before (the agent ends then)."""
        reached = asyncio.Event()
        self.notify_durable(batch, reached.set)
        await reached.wait()

    def batch_durable(self, batch: int) -> None:
        """The WAL has synced `batch` (called on the loop)."""
        self._tell(batch)
        self.wake_room()

    def _tell(self, batch: int) -> None:
        for callback in self._durable.reached(batch):
            callback()

    def wal_state_changed(self, state: WalState) -> None:
        """The WAL became full, failed or well again (called on the loop)."""
        self._metrics.ingestion_paused.set(0 if state.kind == "ok" else 1)
        self.wake_room()

    def wake_room(self) -> None:
        """Let those who wait for room go on, first come first served, while there is some."""
        for _ in range(len(self._room)):
            if not self._room or not self.accepts():
                return
            self._room.popleft()()

    # -- word of the store -----------------------------------------------------------------

    def attach(self, trigger: FlushTrigger) -> None:
        """Connect the flusher, and tell it of everything that is dirty since the recovery."""
        self._trigger = trigger
        for state in self.unflushed():
            trigger.dirty(state.name)

    def unflushed(self) -> Iterator[StreamState]:
        """The streams that hold bytes the store does not have."""
        return (state for state in self.states.values() if state.unflushed)

    def notify_stored(self, stream: str, position: int, callback: Callable[[], None]) -> None:
        """See `Sink.notify_stored`."""
        state = self.states.get(stream)
        if state is None or position <= state.committed:
            asyncio.get_running_loop().call_soon(callback)
            return
        state.waiters.add(position, callback)
        if self._trigger is not None:
            self._trigger.urge(stream)

    def stored(self, name: str, position: int, *, since: float) -> None:
        """The store has `name` up to `position`; what is newer was taken at `since` or later."""
        state = self.states[name]
        if position > state.committed:
            state.committed = position
        state.resolved = True
        state.since = since if state.unflushed else 0.0
        self._wal.commit(name, state.committed)
        for callback in state.waiters.reached(state.committed):
            callback()

    async def flush(self, stream: str | None) -> None:
        """See `Sink.flush`."""
        if stream is not None and stream not in self.states:
            raise Rejected("unknown_stream", f"no such stream stream={stream!r}", permanent=True)
        names = [stream] if stream is not None else [state.name for state in self.unflushed()]
        await self.durable(self.barrier())
        waits = []
        for name in names:
            state = self.states[name]
            if not state.unflushed:
                continue
            reached = asyncio.Event()
            state.waiters.add(state.position, reached.set)
            waits.append(reached)
            if self._trigger is not None:
                self._trigger.urge(name, force=True)
        for reached in waits:
            await reached.wait()

    def status(self) -> dict[str, Any]:
        """See `Sink.status`."""
        return self.status_source()


def _refusal(error: WalError) -> Rejected:
    if isinstance(error, TooManyStreams):
        return Rejected("too_many_streams", str(error), permanent=True)
    if isinstance(error, RecordTooLarge):
        return Rejected("record_too_large", str(error), permanent=True)
    return Rejected("wal_failed", str(error), permanent=False)


def _recall(state: StreamState, note: bytes) -> None:
    """Show where the stream went before this process began, also while it has nothing to flush."""
    if not note:
        return
    try:
        bind = decode_bind(decode_repaired(note).bind if is_repaired(note) else note)
    except ValueError:
        return  # the flush that needs it will say what is wrong
    state.key, state.diverted = bind.key, bind.diverted
