"""An agent from a nursery, with the face of `AgentProcess`."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.agent_process import AgentProcess
from torture import nursery
from torture.nursery import Order

__all__ = ["ForkedAgent", "Nursery"]

_WITHIN = 120.0
"""Seconds for whatever has to come in the end, however loaded the machine is."""


class Nursery:
    """The process that `torture.nursery` is about. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(nursery.__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._unread = b""

    def __enter__(self) -> Nursery:
        assert self.answer(_WITHIN) == "ready"
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        self._process.communicate()

    def order(self, order: Order) -> int:
        """Start an agent; returns its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write(order.line().encode())
        self._process.stdin.flush()
        answer = self.answer(_WITHIN)
        assert answer is not None and answer.startswith("started "), answer
        return int(answer.split()[1])

    def answer(self, timeout: float) -> str | None:
        """The next line; None when none comes within `timeout` seconds."""
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([fd], [], [], timeout)[0]:
                return None
            data = os.read(fd, 4096)
            assert data, "the nursery has died"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()


class ForkedAgent(AgentProcess):
    """As `AgentProcess`; `begin` starts it with trouble and without waiting."""

    def __init__(self, nursery: Nursery, folder: Path, **arguments: Any) -> None:
        super().__init__(folder, **arguments)
        self._nursery = nursery
        self._pidfd: int | None = None
        self._notify: socket.socket | None = None
        self.status: int | None = None
        """How the last life ended; negative: by that signal."""
        self.killed = False
        """Whether `kill` was what ended it, or could have."""

    def begin(self, **trouble: Any) -> None:
        """Start it; see `torture.trouble.arrange`."""
        path = self.folder / "notify.sock"
        path.unlink(missing_ok=True)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(path))
        self.log.unlink(missing_ok=True)  # one file for each life
        self.status, self.killed = None, False
        env = {**self.env, "NOTIFY_SOCKET": str(path)}
        pid = self._nursery.order(Order(str(self.config), str(self.log), env, trouble))
        self._pidfd = os.pidfd_open(pid)

    def ready(self, timeout: float = _WITHIN) -> bool:
        """Wait until it takes appends; False when it ended, or the time did, before that."""
        assert self._notify is not None and self._pidfd is not None
        while True:
            notify = self._notify.fileno()
            if notify not in select.select([notify, self._pidfd], [], [], timeout)[0]:
                return False
            if b"READY=1" in self._notify.recv(4096):
                return True

    def start(self, *, wait: bool = True) -> ForkedAgent:
        self.begin()
        assert not wait or self.ready(), self.log_text()
        return self

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended by itself."""
        assert self._pidfd is not None
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def ended(self, timeout: float) -> bool:
        """Wait for its end for that many seconds."""
        if self.status is None:
            answer = self._nursery.answer(timeout)
            if answer is None:
                return False
            self.status = int(answer.removeprefix("ended "))
            assert self._pidfd is not None and self._notify is not None
            os.close(self._pidfd)
            self._notify.close()
            self._pidfd = self._notify = None
        return True

    def wait(self, timeout: float = _WITHIN) -> int:
        assert self.ended(timeout), f"the agent does not end:\n{self.log_text()}"
        assert self.status is not None
        return self.status

    def kill(self) -> None:
        self.killed = True
        self.send(signal.SIGKILL)
        self.wait()

    def close(self) -> None:
        if self._pidfd is not None:
            self.kill()
