"""Writers of the directory store in processes of their own, that stop before each system call.

Run as a script it is a fork server: each line of JSON on standard input is a writer to be started,
which connects to a socket and then says each call that it is about to make, and waits for a word.
So a test can end it (SIGKILL) or hold it (SIGSTOP) between any two of its calls.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreError
from hf_agent.store.directory_files import Busy, ObjectFiles
from hf_agent.store.disk import OsDisk
from support.faulty_disk import HookedDisk
from support.store_operations import Operation, Outcome

__all__ = ["LockedByNobody", "SteppedWriter", "WriterServer", "perform"]

_WITHIN = 60.0


def perform(operation: Operation, root: str, disk: OsDisk | None = None) -> Outcome:
    """Do it, once; its outcome."""
    files = ObjectFiles(
        root, clock=SystemClock(), rng=random.Random(operation.seed), disk=disk or OsDisk()
    )
    views = [memoryview(operation.body)]
    try:
        match operation.kind:
            case "create":
                files.create(operation.key, views)
            case "replace":
                files.replace(operation.key, views, operation.etag)
            case "delete":
                files.delete(operation.key)
    except Busy:
        return "busy"
    except StoreError as error:
        return type(error).__name__
    return "ok"


class LockedByNobody(HookedDisk):
    """A disk whose locks keep nobody off."""

    def before(self, name: str, *args: Any) -> None:
        pass

    def try_flock(self, fd: int) -> bool:
        self.before("try_flock", fd)
        return True


class _SteppedDisk(LockedByNobody):
    def __init__(self, connection: socket.socket, *, locks: bool) -> None:
        self._connection = connection
        self._locks = locks

    def before(self, name: str, *args: Any) -> None:
        self._connection.sendall(f"call {name}\n".encode())
        assert self._connection.recv(1)

    def try_flock(self, fd: int) -> bool:
        return HookedDisk.try_flock(self, fd) if self._locks else super().try_flock(fd)


def _serve() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they end
    print("ready", flush=True)
    while line := sys.stdin.readline():
        if os.fork() == 0:
            try:
                _write(json.loads(line))
            finally:
                os._exit(0)


def _write(order: dict[str, Any]) -> None:
    operation = Operation.from_json(order["operation"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(order["socket"])
        connection.sendall(f"pid {os.getpid()}\n".encode())
        outcome = perform(operation, order["root"], _SteppedDisk(connection, locks=order["locks"]))
        connection.sendall(f"done {outcome}\n".encode())


class SteppedWriter:
    """One such process, which is about to make `call`, or is at its end with an `outcome`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("r")
        word, pid = self._lines.readline().split()
        assert word == "pid"
        self.pid = int(pid)
        self._pidfd = os.pidfd_open(self.pid)
        self.call: str | None = None
        self.outcome: Outcome | None = None
        """None while it is under way, and for one that was killed."""
        self._read()

    def _read(self) -> None:
        word, _, rest = self._lines.readline().strip().partition(" ")
        self.call = rest if word == "call" else None
        if word == "done":
            self.outcome = rest

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.call is None

    def step(self) -> None:
        """Let it make its call; returns when it is about to make the next one."""
        self.go_on()
        self._read()

    def go_on(self) -> None:
        """Let it make its call, whenever it runs."""
        self._connection.sendall(b".")

    def finish(self) -> Outcome:
        """Let it come to its end."""
        while not self.is_over:
            self.step()
        assert self.outcome is not None
        return self.outcome

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        # Not by its end of the socket: that is closed before the file of the lock is.
        assert select.select([self._pidfd], [], [], _WITHIN)[0]
        self.call = None

    def stop(self) -> None:
        """SIGSTOP, with the word to go on already given; `resume` makes it run."""
        os.kill(self.pid, signal.SIGSTOP)
        self.go_on()

    def resume(self) -> None:
        """SIGCONT; returns when it is about to make the next call."""
        os.kill(self.pid, signal.SIGCONT)
        self._read()

    def close(self) -> None:
        """End it, if it has not."""
        if not self.is_over:
            self.kill()
        self._lines.close()
        self._connection.close()
        os.close(self._pidfd)


class WriterServer:
    """The fork server. Use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._path = str(folder / "writers.sock")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self._path)
        self._listener.listen()
        self._listener.settimeout(_WITHIN)
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> WriterServer:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.close()
        self._process.kill()
        self._process.communicate()

    def start(self, operation: Operation, root: Path, *, locks: bool = True) -> SteppedWriter:
        """Start a writer; it is then about to make its first call. Without `locks` its own do not
        keep anybody off, nor do others keep it off."""
        order = {
            "operation": operation.to_json(),
            "root": str(root),
            "socket": self._path,
            "locks": locks,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        connection, _ = self._listener.accept()
        connection.settimeout(_WITHIN)
        return SteppedWriter(connection)


if __name__ == "__main__":
    _serve()
