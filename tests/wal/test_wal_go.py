"""Appends that wait for `go`, and small batches that the appending thread writes itself."""

from __future__ import annotations

import errno
import os
import queue
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.wal import OsDisk, Wal, WalConfig, WalState, WalStateError, writer
from hf_agent.wal.disk import Buffer

SMALL = WalConfig(file_bytes=64 << 10, max_bytes=1 << 20, max_record_bytes=16 << 10)


@pytest.fixture(autouse=True)
def any_disk_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this machine does now."""
    monkeypatch.setattr(writer, "_SLOW_SECONDS", 3600.0)


class PacedDisk(OsDisk):
    """The real disk, with a pause or an error at each batch; remembers which threads wrote."""

    def __init__(self) -> None:
        self.pause = 0.0
        self.error = 0
        self.writers: list[int] = []

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.writers.append(threading.get_ident())
        if self.pause:
            time.sleep(self.pause)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        return super().pwritev_sync(fd, buffers, offset)


class Log:
    """A log that holds its appends, with what it says."""

    def __init__(self, folder: Path, disk: PacedDisk, config: WalConfig = SMALL) -> None:
        self.durable: queue.Queue[int] = queue.Queue()
        self.states: queue.Queue[WalState] = queue.Queue()
        self.here: list[int] = []
        self.wal = Wal.open(folder, config, disk=disk, clock=SystemClock(), rng=random.Random(1))
        self.wal.start(on_durable=self.durable.put, on_state=self.states.put, hold=True)
        # The first thing that the writer thread does is to wait.
        self.wal.note("first", b"note")
        self.durable.get(timeout=30)


def go_here(log: Log) -> int:
    """`go` until the writer thread has come to wait, which it does soon."""
    for _ in range(10_000):
        if log.wal.go(here=log.here.append):
            return log.here[-1]
        if log.durable.qsize():
            log.durable.get()
            log.wal.append("s", b"again")
    raise AssertionError("no batch was written here")


def test_a_small_batch_is_durable_when_go_returns(tmp_path: Path) -> None:
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    log.wal.append("s", b"data")
    number = go_here(log)
    assert log.wal.durable_batch == number
    assert disk.writers[-1] == threading.get_ident()
    view = log.wal.stream("s")
    assert view is not None
    assert view.durable == view.position
    log.wal.close()


def test_the_word_comes_once_synced_and_may_be_answered_with_an_append(tmp_path: Path) -> None:
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    heard: list[tuple[int, int, int]] = []

    def answer(number: int) -> None:
        heard.append((number, log.wal.durable_batch, len(disk.writers)))
        log.wal.append("s", b"more")

    log.wal.append("s", b"data")
    before = len(disk.writers)
    for _ in range(10_000):
        if log.wal.go(here=answer):
            break
        if log.durable.qsize():
            log.durable.get()
            log.wal.append("s", b"again")
            before = len(disk.writers)
    ((number, durable, writes),) = heard
    assert durable == number
    assert writes == before + 1
    assert log.wal.batch == number + 1
    assert log.wal.pending_bytes > 0
    log.wal.close()
    again = Wal.open(tmp_path / "wal", SMALL, clock=SystemClock(), rng=random.Random(2))
    view = again.stream("s")
    assert view is not None
    plan = again.plan("s", 0, 1 << 20)
    stored = bytearray(plan.nbytes)
    again.read_into(plan, memoryview(stored))
    assert stored.endswith((b"datamore", b"againmore"))
    again.close()


def test_nothing_is_written_before_go(tmp_path: Path) -> None:
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    before = len(disk.writers)
    appended = log.wal.append("s", b"data")
    assert log.wal.durable_batch < appended.batch
    assert len(disk.writers) == before
    assert not log.wal.go()
    assert log.durable.get(timeout=30) == appended.batch
    log.wal.close()


def test_a_large_batch_is_the_writer_threads(tmp_path: Path) -> None:
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    for _ in range(3):
        appended = log.wal.append("s", bytes(6000))
    assert not log.wal.go(here=log.here.append)
    while log.durable.get(timeout=30) < appended.batch:
        pass
    assert threading.get_ident() not in disk.writers
    log.wal.close()


def test_a_disk_that_was_slow_once_is_left_to_the_writer_thread_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_SLOW_SECONDS", 0.001)
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    disk.pause = 0.002
    log.wal.append("s", b"slow")
    log.wal.go()
    log.durable.get(timeout=30)
    disk.pause = 0.0
    disk.writers.clear()
    for _ in range(20):
        appended = log.wal.append("s", b"data")
        assert not log.wal.go(here=log.here.append)
        assert log.durable.get(timeout=30) == appended.batch
    assert threading.get_ident() not in disk.writers
    log.wal.close()


def test_an_error_of_the_disk_here_is_as_final_as_there(tmp_path: Path) -> None:
    disk = PacedDisk()
    log = Log(tmp_path / "wal", disk)
    log.wal.append("s", b"good")
    go_here(log)
    disk.error = errno.EIO
    log.wal.append("s", b"bad")
    for _ in range(10_000):
        assert not log.wal.go(here=log.here.append)
        if log.wal.state.kind == "failed":
            break
    assert log.states.get(timeout=30).kind == "failed"
    with pytest.raises(WalStateError):
        log.wal.append("s", b"more")
    log.wal.close()


def test_both_threads_writing_in_turn_lose_and_double_nothing(tmp_path: Path) -> None:
    for seed in range(8):
        rng = random.Random(seed)
        print(f"seed={seed}")
        log = Log(tmp_path / f"wal-{seed}", PacedDisk())
        expected = b""
        committed = read = 0
        stored = b""
        for number in range(400):
            data = b"%06d" % number + rng.randbytes(rng.choice((1, 50, 3000)))
            log.wal.append("s", data)
            expected += data
            if rng.random() < 0.7:
                log.wal.go(here=log.here.append if rng.random() < 0.8 else None)
            if rng.random() < 0.1:
                log.wal.note("s", b"%d" % number)
            if rng.random() < 0.1:
                plan = log.wal.plan("s", read, 1 << 20)
                buffer = bytearray(plan.nbytes)
                log.wal.read_into(plan, memoryview(buffer))
                stored += buffer
                read = plan.end
            if rng.random() < 0.1 and committed < read:
                committed = read
                log.wal.commit("s", committed)
        log.wal.close()
        again = Wal.open(tmp_path / f"wal-{seed}", SMALL, clock=SystemClock(), rng=random.Random(2))
        view = again.stream("s")
        assert view is not None
        assert view.position == len(expected)
        plan = again.plan("s", read, 1 << 24)
        rest = bytearray(plan.nbytes)
        again.read_into(plan, memoryview(rest))
        assert stored + rest == expected, f"seed={seed}"
        again.close()
