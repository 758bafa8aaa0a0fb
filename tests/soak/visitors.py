"""Connections that come and go: idle ones, cut ones, and such as send nonsense."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

__all__ = ["Visitors"]


class Visitors(threading.Thread):
    """Calls at one of the sockets every few hundredths of a second until it is told to end."""

    def __init__(self, paths: Sequence[Path], rng: random.Random) -> None:
        super().__init__(name="visitors", daemon=True)
        self._paths = paths
        self._rng = rng
        self._ending = threading.Event()
        self._held: list[socket.socket] = []
        self.visits = 0

    def end(self) -> None:
        """End, and wait for it."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        while not self._ending.wait(self._rng.uniform(0, 0.1)):
            self._visit()
            while len(self._held) > 20:
                self._held.pop(self._rng.randrange(len(self._held))).close()
        for connection in self._held:
            connection.close()

    def _visit(self) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(5)
        try:
            connection.connect(str(self._rng.choice(self._paths)))
            # No end of line: of protocol `lines` nothing of it is a record when it is cut off.
            connection.sendall(self._rng.randbytes(self._rng.choice((0, 1, 7))).replace(b"\n", b""))
            self.visits += 1
        except OSError:
            connection.close()
        else:
            self._held.append(connection)
