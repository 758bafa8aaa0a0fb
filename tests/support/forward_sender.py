"""A shipper of its own process: sends chunks, keeps what is not answered, and sends that again.

    python forward_sender.py SOCKET STATE SEED TAG CHUNKS WINDOW

What it sends follows from the seed alone, so whoever knows that can say what must be stored. STATE
is a file with the number of chunks that were answered, without a gap, when the process last looked:
as a shipper's buffer on disk, it lags behind, and a restarted one sends some chunks once more. For
each answer it prints a line with the number of chunks answered.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

import msgpack

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PAUSE = 0.02
"""Seconds between two tries to connect."""
EPOCH = 1_700_000_000


def entries_of(seed: int, number: int) -> list[tuple[int, dict[str, Any]]]:
    """Nanoseconds and record of each event in a chunk."""
    rng = random.Random(seed * 1_000_003 + number)
    # Some take many appends: the agent should be killed in between.
    count = 3000 if number % 60 == 59 else rng.choice((1, 1, 1, 2, 5, 30, 100))
    return [
        (rng.randrange(10**9), {"chunk": number, "n": place, "log": "x" * rng.randrange(80)})
        for place in range(count)
    ]


def line_of(number: int, nanos: int, record: dict[str, Any]) -> dict[str, Any]:
    """The line that must be stored for an event of chunk `number`."""
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(EPOCH + number))
    return {"time": f"{seconds}.{nanos:09d}Z", **record}


def message_of(seed: int, tag: str, number: int) -> tuple[bytes, str]:
    """A chunk as it is sent, in any of the modes, and its id."""
    events = [
        [msgpack.ExtType(0, struct.pack(">II", EPOCH + number, nanos)), record]
        for nanos, record in entries_of(seed, number)
    ]
    id = hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:32]
    options: dict[str, Any] = {"chunk": id}
    stream = b"".join(map(msgpack.packb, events))
    mode = number % 4 if len(events) > 1 else number % 5
    if mode == 0:
        message = [tag, stream, options | {"size": len(events)}]
    elif mode == 1:
        message = [tag, events, options]
    elif mode == 2:
        message = [tag, gzip.compress(stream), options | {"compressed": "gzip"}]
    elif mode == 3:
        message = [tag, zstd.compress(stream), options | {"compressed": "zstd"}]
    else:
        message = [tag, *events[0], options]
    packed: bytes = msgpack.packb(message)
    return packed, id


class Shipper:
    """One stream's chunks, over one connection at a time."""

    def __init__(
        self, path: str, state: Path, seed: int, tag: str, chunks: int, window: int
    ) -> None:
        self.path = path
        self.state = state
        self.seed = seed
        self.tag = tag
        self.chunks = chunks
        self.window = window
        self.answered = int(state.read_text()) if state.exists() else 0

    def run(self) -> None:
        """Return when every chunk is answered."""
        while self.answered < self.chunks:
            try:
                self._over_one_connection()
            except OSError:
                time.sleep(PAUSE)

    def _over_one_connection(self) -> None:
        """Send what is not answered, the oldest first, until the connection breaks."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(60)
            connection.connect(self.path)
            unpacker = msgpack.Unpacker()
            waiting: list[str] = []
            sent = self.answered
            while self.answered < self.chunks:
                while sent < min(self.chunks, self.answered + self.window):
                    message, id = message_of(self.seed, self.tag, sent)
                    connection.sendall(message)
                    waiting.append(id)
                    sent += 1
                data = connection.recv(65536)
                if not data:
                    return
                unpacker.feed(data)
                for answer in unpacker:
                    assert answer == {"ack": waiting.pop(0)}
                    self.answered += 1
                    self._remember()

    def _remember(self) -> None:
        if self.answered % 7 == 0:
            # A kill must not leave half of it.
            written = self.state.with_suffix(".new")
            written.write_text(str(self.answered))
            written.replace(self.state)
        print(self.answered, flush=True)


def main() -> None:
    """Run one shipper."""
    path, state, seed, tag, chunks, window = sys.argv[1:]
    Shipper(path, Path(state), int(seed), tag, int(chunks), int(window)).run()


if __name__ == "__main__":
    main()
