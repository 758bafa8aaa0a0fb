"""The write-ahead log as its users see it. See `docs/wal-format.md` for what is on disk.

One thread (an event loop's) appends, notes, commits and plans; any number of threads may read;
the log's own writer thread writes and syncs. It does not watch its files: nobody else may touch
them while it is open.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Buffer, Disk, OsDisk
from hf_agent.wal.errors import WalError
from hf_agent.wal.files import FileSet
from hf_agent.wal.gathering import Appended, Gathering, NewMarks
from hf_agent.wal.handle import Handle
from hf_agent.wal.opening import open_log
from hf_agent.wal.reader import Plan, Reader
from hf_agent.wal.recovery import Recovery
from hf_agent.wal.state import MarkKey, StreamState, StreamView
from hf_agent.wal.threads import OsThreads, Threads
from hf_agent.wal.writer import WalState, Writer

__all__ = ["Wal"]

_OS_DISK = OsDisk()
_OS_THREADS = OsThreads()


class Wal:
    """A write-ahead log of many streams. Make one with `Wal.open`."""

    def __init__(
        self, lock: Handle, files: FileSet, recovery: Recovery, clock: Clock, threads: Threads
    ) -> None:
        self._lock = lock
        self._files = files
        self._gathering = Gathering(files.config, files.state, threads)
        self._writer = Writer(self._gathering, files, clock, threads)
        self._reader = Reader(files)
        self.id = files.wal_id
        """16 random bytes, the same for the life of this directory."""
        self.recovery = recovery

    @classmethod
    def open(
        cls,
        directory: Path,
        config: WalConfig,
        *,
        disk: Disk = _OS_DISK,
        clock: Clock,
        rng: random.Random,
        threads: Threads = _OS_THREADS,
    ) -> Wal:
        """Lock the directory (created when its parent exists) and recover what it holds.

        Raises `WalLocked` (another process or `Wal` has it), `WalCorrupt` (durable bytes are
        damaged; nothing was changed), `WalUnusable` (the message says what to do).
        """
        lock, files, recovery = open_log(directory, config, disk, clock, rng)
        return cls(lock, files, recovery, clock, threads)

    def start(
        self,
        *,
        on_durable: Callable[[int], None],
        on_state: Callable[[WalState], None],
        hold: bool = False,
    ) -> None:
        """Start the writer thread. Both callbacks are made on it, and must not block or raise.

        `on_durable(n)`: all batches up to number n are durable. `on_state`: on each change, also
        on a thread that calls `go`. With `hold`, appends wait for a call of `go`.
        """
        self._gathering.hold = hold
        self._writer.start(on_durable, on_state)

    def step(self) -> None:
        """Without `start`: do now, in this thread, one thing that the writer thread would do.

        For simulations that must replay exactly. Errors come out here, and none is turned into
        a state.
        """
        self._writer.step(0.0)

    def close(self) -> None:
        """Write and sync what is pending (unless full or failed), end the thread, unlock."""
        self._writer.close()
        self._files.close()
        self._lock.close()

    # Appending.

    def append(self, stream: str, data: Buffer, *, marks: NewMarks = ()) -> Appended:
        """Add bytes to a stream, and raise marks with them, in the gathering batch.

        Never blocks. `data` is kept, not copied: nobody may change it before it is durable. All
        of one append becomes durable or nothing of it. Raises `WalStateError` (failed, closed),
        `TooManyStreams`, `RecordTooLarge`.
        """
        return self._gathering.append(stream, data, marks)

    def append_all(
        self,
        parts: Sequence[tuple[str, Buffer]],
        *,
        marks: NewMarks = (),
    ) -> list[Appended]:
        """Add bytes to several streams so that they become durable together, or none of them.

        As `append` otherwise; all bytes together are bound by `max_record_bytes`, and what the
        names and records take beside them by `batch_limit`. When it raises, nothing was taken.
        """
        return self._gathering.append_all(parts, marks)

    def mark(self, marks: NewMarks) -> int:
        """Raise marks alone; returns the batch with which they are durable.

        Raises `WalStateError`, `RecordTooLarge`.
        """
        return self._gathering.mark(marks)

    def go(self, *, here: Callable[[int], None] | None = None) -> bool:
        """Have everything appended written; needed after appends of a log started with `hold`.

        With `here`, a small batch may be written and synced on the calling thread, which is the
        one that appends, when that takes less time than waking the writer thread. Then True is
        returned, and `here` was called with the batch's number in the place of `on_durable`: as
        soon as it was durable, before positions and pending bytes tell of it. It may append, but
        must not raise.
        """
        if here is not None and self._writer.write_here(here):
            return True
        self._gathering.wake()
        return False

    def note(self, stream: str, data: bytes) -> int:
        """Replace the stream's note; returns the batch with which that is durable.

        A note may use the reserve of a full log. Raises like `append`.
        """
        return self._gathering.note(stream, data)

    def accepts(self) -> bool:
        """Whether appends should go on. False: too much pending, or full, failed, closed."""
        return self._writer.state.kind == "ok" and self._gathering.accepts()

    @property
    def pending_bytes(self) -> int:
        """Bytes taken and not yet durable, with their share of the log's overhead."""
        return self._gathering.pending_bytes

    @property
    def state(self) -> WalState:
        return self._writer.state

    @property
    def batch(self) -> int:
        """Number of the batch that gathers now; numbers begin at 1 with each opening."""
        return self._gathering.batch

    @property
    def durable_batch(self) -> int:
        """All batches up to this number are durable."""
        return self._writer.durable_batch

    def last_mark(self, key: MarkKey) -> int:
        """The highest id accepted for `key`; 0 when it is not known (any more)."""
        return self._gathering.last_mark(key)

    def knows_none(self, keys: Iterable[bytes]) -> bool:
        """Whether `last_mark` is 0 for all of these keys."""
        return self._gathering.knows_none(keys)

    # Streams.

    def streams(self) -> Iterable[StreamView]:
        """All streams, in the order of their first appearance."""
        return map(_view, self._gathering.streams())

    def stream(self, name: str) -> StreamView | None:
        state = self._gathering.stream(name)
        return None if state is None else _view(state)

    def commit(self, stream: str, position: int) -> None:
        """The store has everything of `stream` below `position`: it need not be kept here.

        A lower position than before is ignored. Raises `WalError` for an unknown stream, and for
        a position that is not durable here.
        """
        state = self._known(stream)
        if position > state.durable:
            raise WalError(
                f"cannot commit what is not durable stream={stream} position={position} "
                f"durable={state.durable}"
            )
        if position <= state.committed:
            return
        with self._files.lock:
            state.committed = position
            free = self._files.unpin(state.number, position)
        if free:
            self._gathering.nudge()

    def pinned(self) -> list[str]:
        """Streams whose uncommitted bytes keep the oldest sealed file from being freed."""
        with self._files.lock:
            return [self._files.state.streams[number].name for number in self._files.pins]

    # Reading.

    def plan(self, stream: str, start: int, max_bytes: int) -> Plan:
        """Which durable records to read from `start`: at most `max_bytes`, but at least one.

        `start` must be where a record begins: 0, a plan's end, or what was committed; or among
        zeros that a repair put in the place of lost bytes. Empty when
        nothing is durable from there on. May read from an index. Raises `WalError`, `WalCorrupt`,
        and `OSError` from the disk.
        """
        return self._reader.plan(self._known(stream), start, max_bytes)

    def read_into(self, plan: Plan, buffer: memoryview) -> None:
        """Read the plan's bytes into `buffer` (exactly `plan.nbytes`). Blocks; any thread.

        Every checksum is verified. Raises `WalCorrupt`, and `OSError` from the disk.
        """
        self._reader.read_into(plan, buffer)

    # Figures.

    @property
    def size_bytes(self) -> int:
        """Bytes that the files occupy, the spare included."""
        return self._files.size_bytes

    @property
    def max_bytes(self) -> int:
        return self._files.config.max_bytes

    @property
    def oldest_time(self) -> float:
        """Unix seconds of the first record in the oldest file with uncommitted bytes; or 0.0."""
        return self._files.oldest_time()

    @property
    def sync_observer(self) -> Callable[[float, int], None] | None:
        """Called with seconds and bytes of each write and sync, on the thread that made it."""
        return self._writer.sync_observer

    @sync_observer.setter
    def sync_observer(self, observer: Callable[[float, int], None] | None) -> None:
        self._writer.sync_observer = observer

    def _known(self, stream: str) -> StreamState:
        state = self._gathering.stream(stream)
        if state is None:
            raise WalError(f"the write-ahead log has no such stream stream={stream}")
        return state


def _view(state: StreamState) -> StreamView:
    return StreamView(
        state.name, state.position, state.durable, state.committed, state.note, state.first
    )
