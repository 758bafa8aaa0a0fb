"""What all connections of one socket share."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Protocol

from hf_agent.clock import Clock, system_random
from hf_agent.ingest.admission import AccessConfig, Admission, Refusal
from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.credentials import Credentials
from hf_agent.ingest.forward.settings import ForwardConfig
from hf_agent.ingest.lines.settings import LinesConfig
from hf_agent.ingest.log_limit import LogLimiter
from hf_agent.ingest.peer import Peer as OtherEnd
from hf_agent.ingest.peers import Peer
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.ingest.rate_limits import RateConfig, RateLimits
from hf_agent.ingest.sink import Sink
from hf_agent.ingest.syslog.settings import SyslogConfig
from hf_agent.ingest.wakeups import Wakeups
from hf_agent.metrics import Metrics

if TYPE_CHECKING:
    from hf_agent.ingest.connection import Connection

__all__ = ["FIRST_LINE", "Endpoint", "ListenConfig"]

_IDLE_LOOKS = 16
"""Looks at all connections in an `idle_timeout`: a silent one ends at most two of them late."""

FIRST_LINE = "{first_line}"
"""As `ListenConfig.stream`: each connection's first line names its stream."""


class ListenConfig(AccessConfig, RateConfig, Protocol):
    """One socket, as configured (`[[listen]]`)."""

    @property
    def path(self) -> str | PathLike[str]: ...
    @property
    def protocol(self) -> str: ...
    @property
    def stream(self) -> str: ...
    @property
    def mode(self) -> int: ...
    @property
    def owner(self) -> str:
        """Name or number; empty: left as it is."""
        ...

    @property
    def group(self) -> str:
        """Name or number; empty: left as it is."""
        ...

    @property
    def allow_streams(self) -> tuple[str, ...]:
        """Patterns (`stream_patterns`); empty: every stream."""
        ...

    @property
    def idle_timeout(self) -> float:
        """Seconds; 0: never."""
        ...

    @property
    def max_record_bytes(self) -> int: ...
    @property
    def forward(self) -> ForwardConfig: ...
    @property
    def syslog(self) -> SyslogConfig: ...
    @property
    def lines(self) -> LinesConfig: ...


@dataclass(slots=True)
class Endpoint:
    """One socket's surroundings and its connections."""

    config: ListenConfig
    admission: Admission
    sink: Sink
    metrics: Metrics
    budget: ReceiveBudget
    producers: ProducerRegistry
    clock: Clock
    node: str
    rng: random.Random = field(default_factory=system_random)
    """For what nobody must guess."""
    other_end: Callable[[asyncio.Transport], OtherEnd] = OtherEnd
    """What is at the other end of a transport. Another one where that is no socket."""
    connections: set[Connection] = field(default_factory=set)
    stopping: bool = False
    log_limit: LogLimiter = field(init=False)
    rates: RateLimits = field(init=False)
    wakeups: Wakeups = field(init=False)
    _admitted: dict[Connection, Credentials] = field(default_factory=dict)
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.log_limit = LogLimiter(self.clock)
        self.rates = RateLimits(self.config, self.clock)
        self.wakeups = Wakeups(self.clock)

    def join(self, connection: Connection, peer: Credentials) -> Refusal | None:
        """The connection begins; a refused one is to close at once. Every one must `leave`."""
        refusal = self._refusal(peer)
        if refusal is None:
            self._admitted[connection] = peer
        else:
            self.metrics.refused_connections.labels(connection.protocol, refusal.reason).inc()
        self.connections.add(connection)
        return refusal

    def _refusal(self, peer: Credentials) -> Refusal | None:
        if self.stopping:
            return Refusal(ErrorCode.SHUTTING_DOWN, "shutting_down", "agent is shutting down")
        if self.admission.is_full or self.admission.has_too_many(peer.uid):
            self._forget_those_gone()
        return self.admission.enter(peer)

    def _forget_those_gone(self) -> None:
        # Those that only wait to answer a client that is gone are not worth a place.
        for connection in list(self.connections):
            connection.close_if_peer_is_gone()
            if connection.is_closing:
                self.leave(connection)

    def leave(self, connection: Connection) -> None:
        """The connection is closed. Idempotent."""
        self.connections.discard(connection)
        peer = self._admitted.pop(connection, None)
        if peer is not None:
            self.admission.leave(peer)
        self._gone.set()

    def peers(self) -> Iterator[Peer]:
        """Who is let in, once for each connection."""
        path, protocol = str(self.config.path), self.config.protocol
        return (Peer(path, protocol, who.pid, who.uid) for who in self._admitted.values())

    def end_idle(self) -> None:
        """End the connections that were silent for too long; look again in a while."""
        timeout = self.config.idle_timeout
        if timeout and not self.stopping:
            now = self.clock.monotonic()
            for connection in list(self.connections):
                connection.end_if_idle(now, timeout)
            self.wakeups.after(timeout / _IDLE_LOOKS, self.end_idle)

    async def one_gone(self) -> None:
        """Return when another connection has closed."""
        self._gone.clear()
        await self._gone.wait()
