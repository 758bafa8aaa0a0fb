"""Clients that load an agent all the time, and what must be stored of what they sent.

What a client sends follows from its seed and a number, so that no client remembers it: the check
makes it again. Each line that is stored begins with the client's tag and that number.
"""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hf_agent.client import Client, fresh_producer
from support.forward_sender import Shipper
from support.sent_lines import Chunk, line

__all__ = ["Appender", "ForwardShipper", "LineSender", "Load", "record"]

_PATIENCE = 600.0
_WITHOUT_END = 1 << 40
_STREAM_APPENDS = 400
"""A stream begins this often."""
FORWARD_TAGS = {"fwd.web": 32, "fwd.db": 3}
LINES = "lines"


@dataclass(frozen=True, slots=True)
class Record:
    """One append: to two streams together, or to one."""

    streams: tuple[str, ...]
    data: bytes
    ack: str


def record(tag: str, seed: int, number: int, streams: int = _WITHOUT_END) -> Record:
    """Append `number` of that client; of those that begin, there are no more than `streams`."""
    rng = random.Random(f"{seed} {tag} {number}")
    size = rng.choice((0, 10, 100, 100, 1000, 5000, 20_000))
    data = b"%s %08d %s\n" % (tag.encode(), number, b"x" * size)
    if number % 29 == 28:
        return Record(("app/both", "app/web"), data, "wal")
    new = rng.random() < 0.3
    fresh = f"app/{number // _STREAM_APPENDS % streams:05d}"
    stream = fresh if new else rng.choice(("app/web", "audit"))
    return Record((stream,), data, "store" if rng.random() < 0.02 else "wal")


class Sender(threading.Thread):
    """A client in a thread: sends until it is told to end, then until all is acknowledged."""

    def __init__(self, name: str, rng: random.Random, pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: BaseException | None = None
        self._rng = rng
        self._pause = pause
        self._ending = threading.Event()
        self.under_way = threading.Event()
        """Set once it has an agent; from then on it can do without for some time."""
        self.answered_once = threading.Event()
        """Set by its first acknowledgement, and when it has ended."""

    def end(self) -> None:
        """Begin nothing new."""
        self._ending.set()

    def run(self) -> None:
        try:
            self.send()
        except BaseException as error:
            self.failure = error
        finally:
            self.under_way.set()
            self.answered_once.set()

    def send(self) -> None:
        """The client's work."""
        raise NotImplementedError

    def breathe(self) -> bool:
        """Wait a moment; False when it is time to end."""
        return not self._ending.wait(self._rng.uniform(0, self._pause))


class Appender(Sender):
    """Protocol `append`; with a producer's id exactly once, without at least once."""

    def __init__(
        self,
        path: Path,
        tag: str,
        seed: int,
        *,
        identified: bool = True,
        pause: float = 0.02,
        streams: int = _WITHOUT_END,
    ) -> None:
        super().__init__(tag, random.Random(f"{seed} {tag}"), pause)
        self.tag = tag
        self.seed = seed
        self.identified = identified
        self.streams = streams
        self.sent = 0
        self.acknowledged = 0
        """Only what was waited for; the rest may be too."""
        self._path = path

    def send(self) -> None:
        producer = fresh_producer() if self.identified else None
        with Client(self._path, producer, reconnect_timeout=_PATIENCE) as client:
            self.under_way.set()
            while self.breathe():
                for _ in range(self._rng.choice((1, 1, 5, 40))):
                    self._append(client)
                if self._rng.random() < 0.3:
                    client.wait_acknowledged()
                    self.acknowledged = self.sent
                    self.answered_once.set()
            client.wait_acknowledged()
            self.acknowledged = self.sent

    def _append(self, client: Client) -> None:
        each = self.record(self.sent)
        self.sent += 1
        if len(each.streams) > 1 and self.identified:
            client.append_together([(stream, each.data) for stream in each.streams])
        else:
            client.append(each.streams[0], each.data, each.ack)

    def record(self, number: int) -> Record:
        """Append `number`."""
        return record(self.tag, self.seed, number, self.streams)

    def expected(self) -> Iterator[tuple[str, int, bytes]]:
        """Stream, number and data of all that must be stored, in order."""
        for number in range(self.sent):
            each = self.record(number)
            for stream in each.streams if self.identified else each.streams[:1]:
                yield stream, number, each.data


class LineSender(Sender):
    """Protocol `lines`, a connection for each chunk; what was cut off is sent as another chunk."""

    def __init__(self, path: Path, seed: int, *, pause: float = 0.05) -> None:
        super().__init__(LINES, random.Random(f"{seed} lines"), pause)
        self.chunks: list[Chunk] = []
        self._path = path

    def send(self) -> None:
        self.under_way.set()
        number, acknowledged = 0, True
        while self.breathe() or not acknowledged:
            size = self._rng.choice((1, 10, 100, 1000))
            acknowledged = self._connection(number, size)
            self.chunks.append(Chunk(number, size, acknowledged))
            if acknowledged:
                number += size
                self.answered_once.set()

    def _connection(self, number: int, size: int) -> bool:
        data = b"".join(line(len(self.chunks), number + index) for index in range(size))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(_PATIENCE)
                connection.connect(str(self._path))
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(1) == b""
        except OSError:
            return False  # killed under us, or not up again yet


class _Chunks(Shipper):
    def __init__(self, sender: ForwardShipper, path: Path) -> None:
        window = FORWARD_TAGS[sender.tag]
        super().__init__(str(path), Path("/nonexistent"), sender.seed, sender.tag, 1 << 40, window)
        self._sender = sender

    def _remember(self) -> None:
        self._sender.answered = self.answered
        if self.answered:
            self._sender.answered_once.set()
        if self.chunks == 1 << 40 and not self._sender.breathe():
            self.chunks = self.answered + self.window


class ForwardShipper(Sender):
    """Protocol `forward` with chunk ids: exactly once."""

    def __init__(self, path: Path, tag: str, seed: int, *, pause: float = 0.05) -> None:
        super().__init__(tag, random.Random(f"{seed} {tag}"), pause)
        self.tag = tag
        self.seed = seed
        self.answered = 0
        self._path = path

    def send(self) -> None:
        self.under_way.set()
        _Chunks(self, self._path).run()


@dataclass
class Load:
    """All clients of a run."""

    appenders: list[Appender] = field(default_factory=list)
    shippers: list[ForwardShipper] = field(default_factory=list)
    lines: list[LineSender] = field(default_factory=list)

    @classmethod
    def on(
        cls,
        append: Path,
        forward: Path,
        lines: Path,
        seed: int,
        *,
        pause: float = 1.0,
        streams: int = _WITHOUT_END,
    ) -> Load:
        """Three appending clients, two shippers, one of lines; `pause` stretches their pauses."""
        return cls(
            [
                Appender(append, "A", seed, pause=0.05 * pause, streams=streams),
                Appender(append, "B", seed, pause=0.2 * pause, streams=streams),
                Appender(append, "U", seed, identified=False, pause=0.1 * pause, streams=streams),
            ],
            [
                ForwardShipper(forward, tag, seed + place, pause=0.1 * pause)
                for place, tag in enumerate(FORWARD_TAGS)
            ],
            [LineSender(lines, seed, pause=0.1 * pause)],
        )

    @property
    def senders(self) -> list[Sender]:
        """All of them."""
        return [*self.appenders, *self.shippers, *self.lines]

    def start(self) -> None:
        """Begin; there has to be an agent until this returns."""
        for sender in self.senders:
            sender.start()
        for sender in self.senders:
            assert sender.under_way.wait(_PATIENCE)

    def wait_answered(self, timeout: float) -> None:
        """Wait until each client has had an acknowledgement; raises what a client raised."""
        for sender in self.senders:
            assert sender.answered_once.wait(timeout), f"client {sender.name} gets no answer"
        self.check_alive()

    def end(self) -> None:
        """Begin nothing new; `join` waits for the rest."""
        for sender in self.senders:
            sender.end()

    def join(self, timeout: float) -> None:
        """Wait until all is acknowledged; raises what a client raised."""
        for sender in self.senders:
            sender.join(timeout)
            assert sender.failure is None, f"client {sender.name}: {sender.failure!r}"
            assert not sender.is_alive(), f"client {sender.name} hangs"

    def check_alive(self) -> None:
        """Raises what a client raised."""
        for sender in self.senders:
            if sender.failure is not None:
                raise AssertionError(f"client {sender.name} failed") from sender.failure

    def figures(self) -> dict[str, int]:
        """What was sent so far."""
        return {
            "appends": sum(sender.sent for sender in self.appenders),
            "forward chunks": sum(sender.answered for sender in self.shippers),
            "line chunks": sum(len(sender.chunks) for sender in self.lines),
            "lines": sum(c.count for s in self.lines for c in s.chunks if c.acknowledged),
        }
