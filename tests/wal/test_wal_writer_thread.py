"""The writer thread on a real disk: callbacks, failures, readers beside it, death in the middle."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock, system_random
from hf_agent.wal import OsDisk, Wal, WalConfig, WalError, WalState, WalStateError
from hf_agent.wal.disk import Buffer
from support.wal_tools import SMALL, read_all

CONFIG = replace(SMALL, file_bytes=256 << 10, max_bytes=4 << 20, max_record_bytes=64 << 10)
PATIENCE = 30.0


class Watched:
    """A started log that can be waited for."""

    def __init__(self, path: Path, config: WalConfig = CONFIG, disk: OsDisk | None = None) -> None:
        self.changed = threading.Condition()
        self.batches: list[int] = []
        self.states: list[WalState] = []
        self.threads: set[str] = set()
        self.wal = Wal.open(
            path, config, disk=disk or OsDisk(), clock=SystemClock(), rng=system_random()
        )
        self.wal.start(on_durable=self.batches_append, on_state=self.states_append)

    def batches_append(self, batch: int) -> None:
        with self.changed:
            self.threads.add(threading.current_thread().name)
            self.batches.append(batch)
            self.changed.notify_all()

    def states_append(self, state: WalState) -> None:
        with self.changed:
            self.threads.add(threading.current_thread().name)
            self.states.append(state)
            self.changed.notify_all()

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE)

    def durable(self, batch: int) -> None:
        self.until(lambda: self.wal.durable_batch >= batch)


def test_each_batch_is_told_once_in_order_on_the_writer_thread(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "wal")
    wal = watched.wal
    observed: list[tuple[float, int]] = []
    wal.sync_observer = lambda seconds, size: observed.append((seconds, size))
    last = 0
    for number in range(500):
        last = wal.append("s", b"%d" % number).batch
        if number % 50 == 0:
            watched.durable(last)
    watched.durable(last)
    wal.close()
    assert watched.batches == list(range(1, last + 1))
    assert watched.threads == {"wal-writer"}
    assert [state.kind for state in watched.states] == ["closed"]
    assert len(observed) == last
    assert all(seconds > 0 and size > 48 for seconds, size in observed)


def test_appends_before_the_start_are_written_by_it(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path / "wal", CONFIG, clock=SystemClock(), rng=system_random())
    batch = wal.append("s", b"early").batch
    durable = threading.Event()
    wal.start(on_durable=lambda _: durable.set(), on_state=lambda _: None)
    assert durable.wait(PATIENCE)
    assert wal.durable_batch == batch
    wal.close()


def test_full_and_ok_again_are_told_and_the_writer_wakes_by_a_commit(tmp_path: Path) -> None:
    config = replace(CONFIG, max_bytes=3 * CONFIG.file_bytes)
    watched = Watched(tmp_path / "wal", config)
    wal = watched.wal
    appended = 0
    while not watched.states:
        if wal.accepts():
            appended = wal.append("s", bytes(4000)).position
        else:
            watched.until(lambda: wal.accepts() or bool(watched.states))
    assert [state.kind for state in watched.states] == ["full"]
    view = wal.stream("s")
    assert view is not None
    assert view.durable < appended
    wal.commit("s", view.durable)
    watched.until(lambda: len(watched.states) == 2)
    assert watched.states[1] == WalState("ok")
    watched.durable(wal.batch - 1)
    view = wal.stream("s")
    assert view is not None
    assert view.durable == appended
    wal.close()


class FailingDisk(OsDisk):
    """Fails the chosen calls from a chosen moment on."""

    def __init__(self) -> None:
        self.errors: dict[str, int] = {}

    def _check(self, name: str) -> None:
        if name in self.errors:
            raise OSError(self.errors[name], os.strerror(self.errors[name]))

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self._check("pwritev")
        count = self.pwritev(fd, buffers, offset)
        self._check("fdatasync")
        self.fdatasync(fd)
        return count

    def fallocate(self, fd: int, length: int) -> None:
        self._check("fallocate")
        super().fallocate(fd, length)


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_failed_write_or_sync_is_final(tmp_path: Path, call: str) -> None:
    disk = FailingDisk()
    watched = Watched(tmp_path / "wal", disk=disk)
    wal = watched.wal
    before = wal.append("s", b"good").batch
    watched.durable(before)
    disk.errors[call] = errno.EIO
    wal.append("s", b"never acknowledged")
    watched.until(lambda: bool(watched.states))
    assert watched.states[0].kind == "failed"
    assert "errno=5" in watched.states[0].reason
    disk.errors.clear()
    with pytest.raises(WalStateError, match="failed"):
        wal.append("s", b"refused")
    assert not wal.accepts()
    wal.close()
    assert watched.batches == [before]
    assert wal.state.kind == "failed"
    again = Wal.open(tmp_path / "wal", CONFIG, clock=SystemClock(), rng=system_random())
    assert read_all(again, "s").startswith(b"good")
    again.close()


def test_a_full_disk_is_looked_at_again_without_being_told(tmp_path: Path) -> None:
    disk = FailingDisk()
    watched = Watched(tmp_path / "wal", disk=disk)
    disk.errors["pwritev"] = errno.ENOSPC
    batch = watched.wal.append("s", b"waits").batch
    watched.until(lambda: bool(watched.states))
    assert watched.states[0].kind == "full"
    disk.errors.clear()
    watched.durable(batch)
    watched.until(lambda: len(watched.states) == 2)
    assert watched.states[1].kind == "ok"
    watched.wal.close()


def test_closing_while_the_disk_is_full_does_not_hang(tmp_path: Path) -> None:
    disk = FailingDisk()
    watched = Watched(tmp_path / "wal", disk=disk)
    disk.errors["pwritev"] = errno.ENOSPC
    watched.wal.append("s", b"lost")
    watched.until(lambda: bool(watched.states))
    watched.wal.close()
    assert watched.batches == []
    assert watched.states[-1].kind == "closed"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_callback_that_raises_fails_the_log_loudly(tmp_path: Path) -> None:
    wal = Wal.open(tmp_path / "wal", CONFIG, clock=SystemClock(), rng=system_random())
    failed = threading.Event()

    def raising(_: int) -> None:
        raise RuntimeError("defect")

    wal.start(on_durable=raising, on_state=lambda state: failed.set())
    wal.append("s", b"x")
    assert failed.wait(PATIENCE)
    assert "defect" in wal.state.reason
    wal.close()


def test_readers_in_other_threads_see_right_bytes_while_files_come_and_go(tmp_path: Path) -> None:
    config = replace(SMALL, file_bytes=64 << 10, max_bytes=512 << 10)
    watched = Watched(tmp_path / "wal", config)
    wal = watched.wal
    rng = random.Random(3)
    content = {name: rng.randbytes(512 << 10) for name in ("a", "b", "c")}
    position = dict.fromkeys(content, 0)
    stop = threading.Event()
    problems: list[BaseException] = []
    rounds = 0

    def unread(name: str) -> bool:
        view = wal.stream(name)
        return view is not None and view.committed < view.durable

    def read(name: str) -> None:
        nonlocal rounds
        try:
            while not stop.is_set():
                watched.until(lambda: stop.is_set() or unread(name))
                view = wal.stream(name)
                if view is None:
                    continue
                try:
                    plan = wal.plan(name, view.committed, 20_000)
                except WalError as error:
                    # Committed by the other reader of this stream meanwhile.
                    assert type(error) is WalError
                    continue
                buffer = bytearray(plan.nbytes)
                wal.read_into(plan, memoryview(buffer))
                assert buffer == content[name][plan.start : plan.end]
                wal.commit(name, plan.end)
                rounds += bool(plan)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=read, args=(name,)) for name in "aabc"]
    for thread in threads:
        thread.start()
    while any(position[name] < len(content[name]) for name in content) and not problems:
        if not wal.accepts():
            watched.until(lambda: wal.accepts() or wal.state.kind == "full")
            continue
        name = rng.choice("abc")
        size = rng.choice((1, 100, 3000, 8000))
        data = content[name][position[name] : position[name] + size]
        if data:
            position[name] = wal.append(name, data).position
    watched.durable(wal.batch - 1 if not wal.pending_bytes else wal.batch)
    with watched.changed:
        stop.set()
        watched.changed.notify_all()
    for thread in threads:
        thread.join()
    assert not problems, problems
    assert rounds > 20
    wal.close()


WRITER = """
import sys, threading
from pathlib import Path
from hf_agent.clock import SystemClock, system_random
from hf_agent.wal import Wal, WalConfig
config = eval(sys.argv[2])
wal = Wal.open(Path(sys.argv[1]), config, clock=SystemClock(), rng=system_random())
positions = {}
def durable(batch):
    if batch in positions:
        print(positions[batch], flush=True)
wal.start(on_durable=durable, on_state=lambda state: None)
view = wal.stream("s")
position = view.position if view else 0
while True:
    while not wal.accepts():
        view = wal.stream("s")
        wal.commit("s", view.durable)
    record = b"%015d\\n" % (position // 16)
    taken = wal.append("s", record)
    positions[taken.batch] = position = taken.position
"""


def test_what_was_acknowledged_survives_sigkill_again_and_again(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    rng = random.Random(11)
    acknowledged = 0
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), repr(CONFIG)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as child:
            assert child.stdout is not None
            for _ in range(rng.randrange(1, 200)):
                acknowledged = int(child.stdout.readline())
            child.kill()
            rest = child.stdout.read().split(b"\n")[:-1]
            acknowledged = max([acknowledged, *map(int, rest)])
        wal = Wal.open(directory, CONFIG, clock=SystemClock(), rng=system_random())
        view = wal.stream("s")
        assert view is not None
        assert view.position >= acknowledged
        data = read_all(wal, "s", 1 << 20)
        first = view.first // 16
        assert data == b"".join(b"%015d\n" % (first + n) for n in range(len(data) // 16))
        wal.close()
