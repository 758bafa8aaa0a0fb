"""Where appends gather into batches while the disk is busy: the appending thread's side.

One thread appends, the writer thread takes. Each call holds the lock for a few bytecodes only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple, TypeAlias

from hf_agent.wal.batch import LARGE, PART_OVERHEAD, Batch, Part
from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Buffer
from hf_agent.wal.errors import RecordTooLarge, TooManyStreams, WalStateError
from hf_agent.wal.state import LogState, MarkKey, StreamState
from hf_agent.wal.threads import Threads

__all__ = ["Appended", "Gathering", "Level", "NewMarks"]

NewMarks: TypeAlias = Mapping[MarkKey, int] | Sequence[tuple[MarkKey, int]]
"""Ids to be raised. A mapping is cheaper where there are many."""

_MARK_OVERHEAD = 24
"""Upper bound of what a mark takes beside its key."""


class Appended(NamedTuple):
    """An append was accepted; it is not durable yet."""

    batch: int
    """It is durable when the batch of this number is."""
    position: int
    """Stream position after it, in bytes."""


class Level:
    """What the writer waits for; each level leaves out what the one before still takes."""

    ANY = 1
    URGENT = 2
    """Only batches up to the last one with a note."""
    NUDGE = 3
    """No batches: only `nudge` and `close`."""


class Gathering:
    """The gathering batch, the ones queued before it, and the accepted state."""

    def __init__(self, config: WalConfig, recovered: LogState, threads: Threads) -> None:
        self._config = config
        self._max_record = config.max_record_bytes
        self._batch_limit = config.batch_limit
        self._lock = Lock()
        self._streams = {stream.name: stream for stream in recovered.streams.values()}
        self._next_stream = max(recovered.streams, default=0) + 1
        self._marks = recovered.marks.copy()
        self._batch = Batch(1)
        self._queue: deque[Batch] = deque()
        self._queued_bytes = 0
        self._urgent = 0  # number of the last batch with a note
        self._refusal: str | None = None
        self._nudged = False
        self._wake = threads.lock()
        self._wake.acquire()
        self._waiting = 0  # the level at which the writer waits; 0: it does not
        self.hold = False
        """Whether an append leaves it to `wake` to wake the writer."""
        self.closing = False

    # The appending thread's side.

    def append(self, name: str, data: Buffer, marks: NewMarks) -> Appended:
        """Add `data` to the gathering batch; see `Wal.append`."""
        size = data.nbytes if type(data) is memoryview else len(data)  # `_nbytes`, on a hot path
        with self._lock:
            batch = self._batch
            part = batch.parts.get(name)
            if (
                part is None
                or not size
                or marks
                or batch.size + size > self._batch_limit
                or self._refusal is not None
            ):
                batch, part = self._unusual(name, size, marks)
            elif size > self._max_record:
                raise self._too_large("append", size, self._max_record)
            part.buffers.append(data)
            part.size += size
            batch.size += size
            if size >= LARGE:
                part.large = True
            state = part.state
            state.position = position = state.position + size
            if self._waiting == 1 and not self.hold:
                self._waiting = 0
                self._wake.release()
            # An append of nothing may leave the batch empty: then it is as durable as the last.
            number = batch.number if batch.size else batch.number - 1
        return Appended(number, position)

    def append_all(self, parts: Sequence[tuple[str, Buffer]], marks: NewMarks) -> list[Appended]:
        """Add bytes to several streams in one batch; see `Wal.append_all`."""
        with self._lock:
            self._check_open()
            cost = self._cost_of_all([(name, _nbytes(data)) for name, data in parts])
            batch = self._batch_for(cost + self._cost_of_marks(marks))
            appended = []
            for name, data in parts:
                size = _nbytes(data)
                part = self._part(batch, name, size)
                part.buffers.append(data)
                part.size += size
                part.large = part.large or size >= LARGE
                batch.size += size
                part.state.position += size
                appended.append(Appended(batch.number, part.state.position))
            self._mark(batch, marks)
            if not self.hold:
                self._release(Level.ANY)
            if not batch.size:
                return [Appended(batch.number - 1, position) for _, position in appended]
        return appended

    def mark(self, marks: NewMarks) -> int:
        """Raise marks; see `Wal.mark`."""
        with self._lock:
            self._check_open()
            batch = self._batch_for(self._cost_of_marks(marks))
            self._mark(batch, marks)
            if not self.hold:
                self._release(Level.ANY)
            return batch.number if batch.size else batch.number - 1

    def note(self, name: str, data: bytes) -> int:
        """Replace the stream's note; see `Wal.note`."""
        if len(data) > self._config.max_note_bytes:
            raise self._too_large("note", len(data), self._config.max_note_bytes)
        with self._lock:
            self._check_open()
            batch = self._batch_for(len(data) + PART_OVERHEAD)
            state = self._stream(name, batch)
            batch.notes[state] = state.note = data
            batch.size += len(data) + PART_OVERHEAD
            self._urgent = batch.number
            self._release(Level.URGENT)
            return batch.number

    def stream(self, name: str) -> StreamState | None:
        return self._streams.get(name)

    def streams(self) -> list[StreamState]:
        with self._lock:
            return list(self._streams.values())

    def last_mark(self, key: MarkKey) -> int:
        return self._marks.get(key)

    def knows_none(self, keys: Iterable[bytes]) -> bool:
        return self._marks.knows_none(keys)

    def accepts(self) -> bool:
        """Whether the pending bytes leave room; states are the writer's to judge."""
        return self._queued_bytes + self._batch.size < self._config.pending_limit

    @property
    def pending_bytes(self) -> int:
        return self._queued_bytes + self._batch.size

    @property
    def batch(self) -> int:
        """Number of the batch that gathers now."""
        return self._batch.number

    def _unusual(self, name: str, size: int, marks: NewMarks) -> tuple[Batch, Part]:
        """Everything that most appends need not: a new part, batch, stream or mark; errors."""
        self._check_open()
        if size > self._max_record:
            raise self._too_large("append", size, self._max_record)
        batch = self._batch_for(size + PART_OVERHEAD + self._cost_of_marks(marks))
        part = self._part(batch, name, size)
        self._mark(batch, marks)
        return batch, part

    def _part(self, batch: Batch, name: str, size: int) -> Part:
        """The stream's part of `batch`; it stays out of it while there is nothing to add."""
        part = batch.parts.get(name)
        if part is None:
            part = Part(self._stream(name, batch))
            if size:
                batch.parts[name] = part
                batch.size += PART_OVERHEAD
        return part

    def _cost_of_marks(self, marks: NewMarks) -> int:
        if not marks:
            return 0
        sizes = _key_sizes(marks if isinstance(marks, Mapping) else [key for key, _ in marks])
        longest = max(sizes)
        if longest > self._config.max_name_bytes:
            raise self._too_large("mark", longest, self._config.max_name_bytes)
        return sum(sizes) + len(sizes) * _MARK_OVERHEAD

    def _cost_of_all(self, sizes: Sequence[tuple[str, int]]) -> int:
        """Raises whatever forbids one of them, before any is taken."""
        size = sum(size for _, size in sizes)
        if size > self._max_record:
            raise self._too_large("append", size, self._max_record)
        new = {name for name, _ in sizes if name not in self._streams}
        overhead = len(sizes) * PART_OVERHEAD
        for count, name in enumerate(sorted(new)):
            overhead += self._check_new(name, count) + PART_OVERHEAD
        # Beside the largest append there is room for this much in each file, however small.
        if overhead > self._batch_limit:
            raise self._too_large("sum of names and records", overhead, self._batch_limit)
        return size + overhead

    def _mark(self, batch: Batch, marks: NewMarks) -> None:
        if isinstance(marks, Mapping):
            # Of one kind, and new: chunks, mostly, and then there are many.
            if batch.marks.keys().isdisjoint(marks) and self._marks.add_new(marks):
                if not batch.marks:
                    batch.size += PART_OVERHEAD
                batch.size += sum(_key_sizes(marks)) + len(marks) * _MARK_OVERHEAD
                batch.marks.update(marks)
                return
            marks = list(marks.items())
        for key, value in marks:
            self._mark_one(batch, key, value)

    def _mark_one(self, batch: Batch, key: MarkKey, value: int) -> None:
        if self._marks.move(key, value):
            if not batch.marks:
                batch.size += PART_OVERHEAD
            # Last in the batch, too: what is forgotten first must not differ after a recovery.
            if batch.marks.pop(key, None) is None:
                batch.size += _key_bytes(key) + _MARK_OVERHEAD
            batch.marks[key] = value

    def _stream(self, name: str, batch: Batch) -> StreamState:
        state = self._streams.get(name)
        if state is not None:
            return state
        size = self._check_new(name)
        state = StreamState(name, self._next_stream)
        self._next_stream += 1
        self._streams[name] = state
        batch.new_streams.append(state)
        batch.size += size + PART_OVERHEAD
        return state

    def _check_new(self, name: str, others: int = 0) -> int:
        """Raise if a stream cannot be begun after `others` more; the bytes of its name."""
        size = len(name.encode())
        if not name:
            raise RecordTooLarge("a stream needs a name; give at least one character")
        if size > self._config.max_name_bytes:
            raise self._too_large("stream name", size, self._config.max_name_bytes)
        if len(self._streams) + others >= self._config.max_streams:
            raise TooManyStreams(
                "the write-ahead log knows as many streams as it may; raise the limit "
                f"max_streams={self._config.max_streams} stream={name}"
            )
        return size

    def _batch_for(self, size: int) -> Batch:
        if self._batch.size and self._batch.size + size > self._batch_limit:
            self._close_batch()
        return self._batch

    def _close_batch(self) -> None:
        batch = self._batch
        self._queue.append(batch)
        self._queued_bytes += batch.size
        self._batch = Batch(batch.number + 1)

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise WalStateError(self._refusal)

    def _too_large(self, what: str, size: int, limit: int) -> RecordTooLarge:
        return RecordTooLarge(f"{what} is too large bytes={size} limit={limit}")

    # Between the threads.

    def wake(self) -> None:
        """Have the writer take what gathers, if it waits for that."""
        with self._lock:
            if self._batch.size or self._queue:
                self._release(Level.ANY)

    def take_from_waiting_writer(self, max_bytes: int) -> Batch | None:
        """The gathering batch, if it is all there is, small, and the writer waits for it.

        It is the first one until `done`, and the writer's if it is woken before that.
        """
        with self._lock:
            if self._waiting != Level.ANY or self._queue or not 0 < self._batch.size <= max_bytes:
                return None
            return self._first(Level.ANY)

    def nudge(self) -> None:
        """Make the writer look whether files can be freed."""
        with self._lock:
            self._nudged = True
            self._release(Level.NUDGE)

    def refuse(self, reason: str) -> None:
        """Raise `WalStateError` from every append from now on."""
        with self._lock:
            self._refusal = reason

    def close(self) -> None:
        """Refuse appends, and let the writer end when it has written what there is."""
        with self._lock:
            if self._refusal is None:
                self._refusal = "the write-ahead log is closed"
            self.closing = True
            self._release(Level.NUDGE)

    def _release(self, level: int) -> None:
        if 0 < self._waiting <= level:
            self._waiting = 0
            self._wake.release()

    # The writer thread's side.

    def wait(self, level: int, timeout: float) -> Batch | None:
        """Wait for a batch that `level` lets through; None after a nudge, close or timeout.

        The batch stays the first one until `done`. A negative timeout means for ever.
        """
        while True:
            with self._lock:
                batch = self._first(level)
                if batch is not None or self._nudged or self.closing:
                    self._nudged = False
                    return batch
                self._waiting = level
            if not self._wake.acquire(timeout=timeout):
                with self._lock:
                    if self._waiting:
                        self._waiting = 0
                        return None
                    self._wake.acquire()  # released just now

    def first(self) -> Batch | None:
        """The batch to be written next, if there is any."""
        with self._lock:
            return self._first(Level.ANY)

    def is_urgent(self, batch: Batch) -> bool:
        """Whether a note waits in this batch or behind it."""
        return batch.number <= self._urgent

    def done(self, batch: Batch) -> None:
        """The first batch is durable: forget it."""
        with self._lock:
            self._queue.popleft()
            self._queued_bytes -= batch.size
        batch.release()

    def _first(self, level: int) -> Batch | None:
        if level == Level.NUDGE:
            return None
        if not self._queue:
            if not self._batch.size:
                return None
            if level == Level.URGENT and self._batch.number > self._urgent:
                return None
            self._close_batch()
        first = self._queue[0]
        return first if level == Level.ANY or first.number <= self._urgent else None


def _nbytes(data: Buffer) -> int:
    return data.nbytes if isinstance(data, memoryview) else len(data)


def _key_sizes(keys: Collection[MarkKey]) -> list[int]:
    is_binary = str not in set(map(type, keys))  # many are, if they are many
    return list(map(len if is_binary else _key_bytes, keys))


def _key_bytes(key: MarkKey) -> int:
    return len(key) if isinstance(key, bytes) else len(key.encode())
