"""The main job in small: appends and lines go in, the agent is killed, and all of it is stored.

A test sends in two halves and does to the agent what it likes in between; `check` then reads every
object that was stored, without the package's own reader.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from hf_agent.client import Client, fresh_producer
from support.container_check import Checker, check_levels_descend, check_own_object, check_trailer
from support.sent_lines import Chunk, check_lines, line

__all__ = ["MainJob", "stored_content"]

_STREAMS = ("app/web", "audit")
_BATCH = 15
_WITHIN = 120.0


class MainJob:
    """Two senders, one for each protocol, and what they were told."""

    def __init__(self, append_socket: Path, lines_socket: Path, rng: random.Random) -> None:
        self._append_socket = append_socket
        self._lines_socket = lines_socket
        self._rng = rng
        self._sent: dict[str, list[bytes]] = {name: [] for name in _STREAMS}
        self._chunks: list[Chunk] = []
        self._lines = 0
        self._appends = 0
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._gave_up = threading.Event()
        self.under_way = threading.Event()
        """Set when the client of protocol `append` is connected: from now on it connects again."""

    def send(self, *, appends: int, lines: int) -> None:
        """Begin to send so many more of each; `wait` for it."""
        seeds = self._rng.getrandbits(32), self._rng.getrandbits(32)
        for sender, count, seed in zip(
            (self._send_appends, self._send_lines), (appends, lines), seeds, strict=True
        ):
            thread = threading.Thread(
                target=self._guarded, args=(sender, count, random.Random(seed))
            )
            thread.start()
            self._threads.append(thread)

    def give_up(self) -> None:
        """Let the senders end, when there is no agent any more; `wait` is no use after this."""
        self._gave_up.set()
        for thread in self._threads:
            thread.join(_WITHIN)

    def wait(self) -> None:
        """Return when everything is acknowledged; raises what a sender raised."""
        while self._threads:
            thread = self._threads.pop()
            thread.join(_WITHIN)
            assert not thread.is_alive(), "a sender hangs"
        assert not self._failures, self._failures

    def check(self, objects: Mapping[str, bytes], prefix: str) -> None:
        """Everything acknowledged is in its container below `prefix`, once, in order.

        `objects` are all that the store holds; there must be no container of a conflict.
        """
        assert not [key for key in objects if ".conflict-" in key]
        for stream, appends in self._sent.items():
            assert stored_content(objects, prefix + stream) == b"".join(appends), stream
        check_lines(stored_content(objects, prefix + "lines"), self._chunks)

    def _guarded(self, sender: object, count: int, rng: random.Random) -> None:
        assert callable(sender)
        try:
            sender(count, rng)
        except BaseException as error:
            self._failures.append(error)

    def _send_appends(self, count: int, rng: random.Random) -> None:
        with Client(self._append_socket, producer=fresh_producer(), reconnect_timeout=60) as client:
            self.under_way.set()
            for number in range(count):
                stream = rng.choice(_STREAMS)
                data = b"<%d %s>" % (self._appends + number, b"x" * rng.choice((0, 10, 5000)))
                last = number % _BATCH == _BATCH - 1
                # Waiting for the store now and then makes many small commits of the job.
                client.append(stream, data, ack="store" if last else "wal")
                self._sent[stream].append(data)
                if last:
                    client.wait_acknowledged()
            client.wait_acknowledged()
        self._appends += count

    def _send_lines(self, count: int, rng: random.Random) -> None:
        """A chunk that was cut off is sent again, as another one."""
        last = self._lines + count
        while self._lines < last and not self._gave_up.is_set():
            size = min(rng.randint(1, 100), last - self._lines)
            chunk = Chunk(self._lines, size, acknowledged=False)
            data = b"".join(line(len(self._chunks), self._lines + i) for i in range(size))
            try:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                    connection.settimeout(60)
                    connection.connect(str(self._lines_socket))
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                    chunk.acknowledged = connection.recv(1) == b""
            except OSError:
                self._gave_up.wait(0.02)  # killed under us, or not up again yet
            self._chunks.append(chunk)
            if chunk.acknowledged:
                self._lines += size


def stored_content(objects: Mapping[str, bytes], key: str) -> bytes:
    """The content of a container that only agents wrote, after every rule of the format."""
    checker = Checker(objects, key)
    chain = checker.chain()
    for segment in chain:
        check_own_object(segment)
        check_trailer(segment)
        check_levels_descend(segment)
    return checker.content(chain[-1].inode) if chain else b""
