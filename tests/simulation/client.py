"""Appending clients: the real session of the append protocol over simulated connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_agent.client.errors import ClientError
from hf_agent.client.options import ClientOptions
from hf_agent.client.session import ConnectionEnded, Session
from hf_agent.ingest.append_messages import ACK_STORE, ACK_WAL, Part
from simulation import records
from simulation.checker import Checker
from simulation.kernel import Kernel
from simulation.network import Link
from simulation.records import Name

if TYPE_CHECKING:
    from simulation.agent import Node

__all__ = ["Client"]


class Client:
    """Appends to some streams of one node until told to stop; sends again what is unanswered."""

    def __init__(
        self,
        kernel: Kernel,
        node: Node,
        checker: Checker,
        name: str,
        streams: list[str],
        *,
        producer: bool,
        rate: float,
        appends: int,
        max_size: int,
    ) -> None:
        self.name = name
        self.producer = producer
        self.stopping = False
        self._kernel = kernel
        self._node = node
        self._checker = checker
        self._streams = streams
        self._rate = rate
        self._appends = appends
        self._max_size = max_size
        self._number = 0
        self._link: Link | None = None
        self._names: dict[int, Name] = {}
        """Appends by their ids, until they are acknowledged."""
        self._storing: dict[int, Name] = {}
        self._acked = 0
        self._session = self._make_session()
        self._failures = 0
        checker.clients[name] = producer
        kernel.after(kernel.rng.random(), self._connect)
        kernel.after(1.0 + kernel.rng.random(), self._append)

    @property
    def is_done(self) -> bool:
        """Whether every append has its answer."""
        return self._session.outbox.is_done

    def _make_session(self) -> Session:
        options = ClientOptions(
            max_unacknowledged_bytes=16 << 10,
            max_unacknowledged_records=40,
            on_ack=self._on_ack,
        )
        return Session(f"producer-{self.name}" if self.producer else None, options)

    # -- appending -------------------------------------------------------------------------

    def _append(self) -> None:
        if self.stopping or self._number >= self._appends:
            return
        rng, kernel = self._kernel.rng, self._kernel
        burst = 1 if rng.random() < 0.7 else rng.randrange(2, 12)
        if self._session.is_ready:
            for _ in range(burst):
                self._append_one()
            self._pump()
        kernel.after(rng.expovariate(self._rate), self._append)

    def _append_one(self) -> None:
        rng, outbox = self._kernel.rng, self._session.outbox
        size = rng.choice((30, 80, 300, 1000, self._max_size))
        size = rng.randrange(records.SMALLEST + 16, size + 17)
        ack = ACK_STORE if rng.random() < 0.05 else ACK_WAL
        name = Name(self.name, self._number + 1)
        data = records.make(name, size)
        if not outbox.has_room(2 * size):
            return
        if size < 3500 and rng.random() < 0.1 and len(self._streams) > 1:
            streams = rng.sample(self._streams, 2)
            parts = [Part(stream, len(data), None) for stream in streams]
            id = outbox.append_alone("", data * 2, ack, expect=None, multi=parts)
        else:
            streams = [rng.choice(self._streams)]
            id = outbox.append(streams[0], data, ack)
        if not id:
            return
        self._number += 1
        self._names[id] = name
        if ack == ACK_STORE:
            self._storing[id] = name
        self._checker.sends(name, streams, data)

    def _on_ack(self, id: int, positions: dict[str, int]) -> None:
        self._acked = id
        for each in [each for each in self._names if each <= id]:
            self._checker.acknowledged(self._names.pop(each))

    def _see_what_is_stored(self) -> None:
        is_answered = self._session.outbox.is_answered
        for each in [each for each in self._storing if is_answered(each)]:
            self._checker.told_stored(self._storing.pop(each))

    # -- connections -----------------------------------------------------------------------

    def _connect(self) -> None:
        if self._link is not None:
            return
        # Names of this very connection: what an older one still says is of no interest.
        link: Link | None = None

        def on_data(data: bytes) -> None:
            if self._link is link:
                self._receive(data)

        def on_end() -> None:
            if self._link is link:
                self._lost()

        link = self._node.connect(on_data, on_end)
        if link is None:
            self._kernel.after(0.05 + self._kernel.rng.random(), self._connect)
            return
        self._link = link
        link.send(self._session.begin())

    def disconnect(self) -> None:
        """Close the connection, whatever is under way on it."""
        if self._link is not None:
            self._link.hang_up()
            self._lost()

    def _lost(self) -> None:
        self._link = None
        self._session.lost()
        self._kernel.trace.event(self._kernel.now, "client-lost", self.name)
        # Some stay away for so long that the log goes on in another file meanwhile.
        longest = self._kernel.rng.choice((0.3, 0.3, 15.0))
        self._kernel.after(self._kernel.rng.random() * longest, self._connect)

    def _receive(self, data: bytes) -> None:
        try:
            self._session.receive(data)
        except ConnectionEnded:
            if self._link is not None:
                self._link.hang_up()
                self._lost()
            return
        except ClientError as error:
            self._kernel.fail(f"client {self.name} was refused: {error}", error)
            return
        self._see_what_is_stored()
        self._pump()

    def _pump(self) -> None:
        if self._link is None:
            return
        while pieces := self._session.next_output():
            self._link.send(b"".join(pieces))
