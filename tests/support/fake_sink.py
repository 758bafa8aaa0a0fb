"""A sink in memory whose durability, room and store are turned on and off by a test."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_agent.ingest.sink import NO_CHUNKS, Buffer, Chunks, Mark, Receipt, Rejected


@dataclass(frozen=True)
class Taken:
    """One call of `append`."""

    stream: str
    data: Buffer
    records: int
    mark: Mark | None
    chunks: Chunks = field(default_factory=dict)


class FakeSink:
    """Implements `hf_agent.ingest.sink.Sink`. Every append is a batch of its own by default."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.durable_batch = 0
        self.batch = 1
        self.durability_held = False
        self.store_held = False
        self.room = True
        self.one_batch = False
        self.refusals: dict[str, Rejected] = {}
        self.refuse_all: Rejected | None = None
        self.marks: dict[str, int] = {}
        self.epochs: dict[str, int] = {}
        self.chunks: dict[bytes, int] = {}
        self.flushes: list[str | None] = []
        self.stored_asked: list[tuple[str, int]] = []
        self.status_answer: dict[str, Any] = {"ready": True}
        self.durable_callbacks = 0
        self.positions: dict[str, int] = {}
        self._durable_waiters: deque[tuple[int, Callable[[], None]]] = deque()
        self._store_waiters: list[Callable[[], None]] = []
        self._room_waiters: deque[Callable[[], None]] = deque()
        self._changed = asyncio.Event()

    # -- the sink ----------------------------------------------------------------------------

    def accepts(self) -> bool:
        return self.room

    def notify_room(self, callback: Callable[[], None]) -> None:
        self._room_waiters.append(callback)
        self._changed.set()

    def check_stream(self, stream: str) -> None:
        """Every stream is taken."""

    def append(
        self,
        stream: str,
        data: Buffer,
        *,
        records: int,
        mark: Mark | None,
        chunks: Chunks = NO_CHUNKS,
    ) -> Receipt:
        assert self.room, "append without room"
        refusal = self.refuse_all or self.refusals.get(stream)
        if refusal is not None:
            raise refusal
        receipt = self._take(Taken(stream, data, records, mark, dict(chunks)))
        self.chunks.update(chunks)
        if mark is not None:
            self._raise(mark)
        if not self.one_batch:
            self._end_batch()
        self._changed.set()
        return receipt

    def append_all(
        self, parts: Sequence[tuple[str, Buffer]], *, mark: Mark | None
    ) -> list[Receipt]:
        assert self.room, "append without room"
        for stream, _ in parts:
            refusal = self.refuse_all or self.refusals.get(stream)
            if refusal is not None:
                raise refusal
        receipts = [self._take(Taken(stream, data, 1, mark)) for stream, data in parts]
        if mark is not None:
            self._raise(mark)
        if not self.one_batch:
            self._end_batch()
        self._changed.set()
        return receipts

    def _take(self, taken: Taken) -> Receipt:
        self.taken.append(taken)
        position = self.position(taken.stream) + len(taken.data)
        self.positions[taken.stream] = position
        return Receipt(self.batch, position)

    def raise_mark(self, mark: Mark) -> int:
        if self.refuse_all is not None:
            raise self.refuse_all
        if (mark.epoch, mark.id) > (self.known(mark.producer).epoch, self.known(mark.producer).id):
            self._raise(mark)
            if not self.one_batch:
                self._end_batch()
            self._changed.set()
        return self.barrier()

    def _raise(self, mark: Mark) -> None:
        self.marks[mark.producer] = mark.id
        self.epochs[mark.producer] = mark.epoch

    def known(self, producer: str) -> Mark:
        return Mark(producer, self.marks.get(producer, 0), self.epochs.get(producer, 0))

    def position(self, stream: str) -> int:
        return self.positions.get(stream, 0)

    def chunk_progress(self, key: bytes) -> int:
        return self.chunks.get(key, 0)

    def knows_none(self, keys: Collection[bytes]) -> bool:
        return self.chunks.keys().isdisjoint(keys)

    def barrier(self) -> int:
        return self.batch if self.one_batch else self.batch - 1

    def notify_durable(self, batch: int, callback: Callable[[], None]) -> None:
        self.durable_callbacks += 1
        if batch <= self.durable_batch:
            asyncio.get_running_loop().call_soon(callback)
        else:
            self._durable_waiters.append((batch, callback))

    def notify_stored(self, stream: str, position: int, callback: Callable[[], None]) -> None:
        self.stored_asked.append((stream, position))
        self._changed.set()
        if self.store_held:
            self._store_waiters.append(callback)
        else:
            asyncio.get_running_loop().call_soon(callback)

    async def flush(self, stream: str | None) -> None:
        if stream is not None and stream not in self.positions:
            raise Rejected("unknown_stream", f"no such stream stream={stream}", permanent=True)
        self.flushes.append(stream)
        self._changed.set()
        if self.store_held:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def answer() -> None:
                if not done.done():
                    done.set_result(None)

            self._store_waiters.append(answer)
            await done

    def status(self) -> dict[str, Any]:
        return self.status_answer

    # -- what a test does to it --------------------------------------------------------------

    def content(self, stream: str) -> bytes:
        """All bytes taken for a stream."""
        return b"".join(bytes(taken.data) for taken in self.taken if taken.stream == stream)

    def records(self, stream: str) -> int:
        """All records taken for a stream."""
        return sum(taken.records for taken in self.taken if taken.stream == stream)

    def make_durable(self) -> None:
        """Let go of durability, for now and later."""
        self.durability_held = False
        self._end_batch()

    def make_stored(self) -> None:
        """Let the store answer, for now and later."""
        self.store_held = False
        waiters, self._store_waiters = self._store_waiters, []
        for callback in waiters:
            callback()

    def make_one_stored(self) -> None:
        """Let the store answer one of those who wait."""
        self._store_waiters.pop(0)()

    def make_room(self) -> None:
        """Take appends again."""
        self.room = True
        while self._room_waiters and self.room:
            self._room_waiters.popleft()()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition`, which is asked after every call of the sink, holds."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def waits_for_room(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._room_waiters)

    def _end_batch(self) -> None:
        if self.durability_held:
            self.batch += 1
            return
        self.durable_batch = self.batch
        self.batch += 1
        asyncio.get_running_loop().call_soon(self._tell_durable)

    def _tell_durable(self) -> None:
        while self._durable_waiters and self._durable_waiters[0][0] <= self.durable_batch:
            self._durable_waiters.popleft()[1]()
