"""The writer thread: takes batches, finds room, writes and syncs, frees files, tells of states.

It ends when the log is closed or failed. Nobody else writes to the files, with one exception: a
small batch that has nothing before it may be written by the thread that appended it
(`write_here`). To wake a thread and be woken by it takes longer than a fast disk takes to sync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from hf_agent.clock import Clock
from hf_agent.wal.batch import Batch, Item, commit_item
from hf_agent.wal.errors import is_out_of_space
from hf_agent.wal.files import FileSet, SyncFailure
from hf_agent.wal.gathering import Gathering, Level
from hf_agent.wal.placement import Placement
from hf_agent.wal.threads import Threads

__all__ = ["WalState", "Writer"]

_FOR_EVER = -1.0
_HERE_BYTES = 16 << 10
_SLOW_SECONDS = 0.0005
_BATCHES_AFTER_SLOW = 64
_RETRY_SECONDS = 1.0  # how often a full disk is looked at; a full log waits for a commit too


@dataclass(frozen=True, slots=True)
class WalState:
    """Whether the log takes appends, and why not."""

    kind: Literal["ok", "full", "failed", "closed"]
    reason: str = ""
    """Lower case, for people; "" when ok."""


_OK = WalState("ok")


class Writer:
    """Moves `gathering`'s batches into `files` until closed or failed."""

    def __init__(
        self, gathering: Gathering, files: FileSet, clock: Clock, threads: Threads
    ) -> None:
        self._gathering = gathering
        self._files = files
        self._placement = Placement(files, clock)
        self._clock = clock
        self._threads = threads
        self._join: Callable[[], None] | None = None
        self._on_durable: Callable[[int], None] = _ignore
        self._on_state: Callable[[WalState], None] = _ignore
        self._recovered_commits = {
            number: stream.committed for number, stream in files.state.streams.items()
        }
        self.sync_observer: Callable[[float, int], None] | None = None
        self.state = _OK
        self.durable_batch = 0
        self._begun = False
        self._stuck = False
        self._writing = threads.lock()
        self._wait_for_fast = 0

    def start(
        self, on_durable: Callable[[int], None], on_state: Callable[[WalState], None]
    ) -> None:
        """Start the thread, which makes both callbacks."""
        self._on_durable = on_durable
        self._on_state = on_state
        self._join = self._threads.start(self._run, "wal-writer")

    def close(self) -> None:
        """Let the thread write what can be written, and wait for its end."""
        self._gathering.close()
        if self._join is not None:
            self._join()
        elif self.state.kind in ("ok", "full"):
            self._run()  # never started: what was appended is written all the same

    def _run(self) -> None:
        try:
            self._loop()
        except SyncFailure as error:
            self._fail(f"a sync of the write-ahead log failed: {error}")
        except OSError as error:
            self._fail_write(error)
        except BaseException as error:
            # A defect, or a callback that raised: the log must not seem to go on.
            self._fail(f"the write-ahead log's writer died: {error!r}")
            raise
        else:
            self._become(WalState("closed", "the write-ahead log is closed"))

    def _loop(self) -> None:
        while self.step(_FOR_EVER):
            pass
        self._log_commits()
        # That, or what was written to free files, may have begun a file: then one more can go.
        self._free_committed()

    def step(self, timeout: float) -> bool:
        """Wait for something to do, at most `timeout` seconds, and do it; False at the end.

        Negative: for ever. The thread's loop; or, instead of a thread, a simulation's.
        """
        gathering = self._gathering
        if not self._begun:
            self._begun = True
            if not self._files.ensure_spare():
                # Without a spare there is no reserve.
                self._become(WalState("full", self._files.full_reason))
            self._free_committed()  # what a crash kept from being freed
        if self.state.kind == "ok":
            batch = gathering.wait(Level.ANY, timeout)
            with self._writing:
                # While this thread was woken, `write_here` may have been at it.
                if batch is not None and batch is gathering.first():
                    self._write(batch)
                self._free_committed()
        else:
            # An urgent batch that found no room waits for a change, too.
            level = Level.NUDGE if self._stuck else Level.URGENT
            batch = gathering.wait(level, _RETRY_SECONDS if timeout < 0 else timeout)
            with self._writing:
                self._free_committed()
                if self._go_on():
                    return True
                self._stuck = batch is not None and not self._write(batch)
        return batch is not None or not gathering.closing

    def write_here(self, tell: Callable[[int], None]) -> bool:
        """Write and sync the gathering batch on the calling thread, if that is worth it.

        It is when the batch is small, the writer waits, the open file has room, and the disk has
        been fast lately: then the caller is held up for less time than two threads need to hand the
        batch over and back. Then `tell` is called in the place of `on_durable`; returns whether.
        """
        if self._wait_for_fast or self.state is not _OK:
            return False
        if not self._writing.acquire(blocking=False):
            return False
        try:
            batch = self._gathering.take_from_waiting_writer(_HERE_BYTES)
            if batch is None or self._files.spare is None:
                return False
            items = batch.items()
            if not self._placement.fits(items):
                return False
            self._place(batch, items, tell)
        except OSError as error:
            if is_out_of_space(error):
                return False  # the writer thread finds the same, and knows what follows
            self._fail_write(error)
            return False
        except BaseException as error:
            self._fail(f"a write to the write-ahead log died: {error!r}")
            raise
        finally:
            self._writing.release()
        return True

    def _place(
        self, batch: Batch, items: Sequence[Item], tell: Callable[[int], None] | None = None
    ) -> None:
        """Write a batch into the open file, which has room for it, and sync it.

        `tell` is called before the books are kept: somebody waits for the word, nobody for those.
        """
        started = self._clock.monotonic()
        written = self._placement.write(items)
        seconds = self._clock.monotonic() - started
        self.durable_batch = batch.number
        if tell is not None:
            tell(batch.number)
        self._placement.apply(written, batch.new_streams, batch.marks)
        if seconds > _SLOW_SECONDS:
            self._wait_for_fast = _BATCHES_AFTER_SLOW
        elif self._wait_for_fast:
            self._wait_for_fast -= 1
        self._gathering.done(batch)
        if self.sync_observer is not None:
            self.sync_observer(seconds, written.size)

    def _go_on(self) -> bool:
        """From full to ok, if there is a spare again and the first batch can be written."""
        if not self._files.ensure_spare():
            self._become(WalState("full", self._files.full_reason))
            return False
        batch = self._gathering.first()
        if batch is not None:
            return self._write(batch)
        self._become(_OK)
        return True

    def _write(self, batch: Batch) -> bool:
        """Write and sync a batch and tell of it; False when there is no room (the log is full)."""
        items = batch.items()
        try:
            urgent = self._gathering.is_urgent(batch)
            if not self._placement.make_room(items, urgent=urgent):
                self._become(WalState("full", self._files.full_reason))
                return False
            self._place(batch, items)
        except OSError as error:
            self._out_of_space(error)
            return False
        self._on_durable(batch.number)
        if self._files.spare is None:
            self._become(WalState("full", self._files.full_reason))
        elif self.state is not _OK:
            self._become(_OK)
        return True

    def _free_committed(self) -> None:
        """Free the oldest files as far as the store has everything in them."""
        freeable = self._files.freeable()
        if not freeable:
            return
        numbers = {number for file in freeable for number in file.directory.numbers}
        # What the files held is then known to be committed, not lost, when they are gone.
        if self._commit(sorted(numbers)):
            for file in freeable:
                self._files.free(file)

    def _commit(self, numbers: Sequence[int]) -> bool:
        streams = self._files.state.streams
        item = commit_item((number, streams[number].committed) for number in numbers)
        try:
            if not self._placement.make_room([item], urgent=True):
                return False
            self._placement.apply(self._placement.write([item]), (), {})
        except OSError as error:
            self._out_of_space(error)
            return False
        return True

    def _log_commits(self) -> None:
        """At a clean end, save the next start from asking the store for what is known here."""
        streams = self._files.state.streams
        moved = [
            number
            for number, stream in streams.items()
            if stream.committed > self._recovered_commits.get(number, 0)
        ]
        if moved:
            self._commit(moved)

    def _out_of_space(self, error: OSError) -> None:
        if not is_out_of_space(error):
            raise error
        self._become(
            WalState(
                "full",
                "no space left for the write-ahead log: make room on its disk "
                f"path={self._files.directory} errno={error.errno}",
            )
        )

    def _fail_write(self, error: OSError) -> None:
        self._fail(
            f"a write to the write-ahead log failed: {(error.strerror or str(error)).lower()} "
            f"errno={error.errno}"
        )

    def _fail(self, reason: str) -> None:
        self._gathering.refuse(reason)
        self._become(WalState("failed", reason))

    def _become(self, state: WalState) -> None:
        if state != self.state:
            self.state = state
            self._on_state(state)


def _ignore(_: object) -> None:
    pass
