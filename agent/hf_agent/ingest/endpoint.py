"""What all connections of one socket share."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Protocol

from hf_agent.clock import Clock, system_random
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.forward.settings import ForwardConfig
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.ingest.sink import Sink
from hf_agent.metrics import Metrics

if TYPE_CHECKING:
    from hf_agent.ingest.connection import Connection

__all__ = ["FIRST_LINE", "Endpoint", "ListenConfig"]

FIRST_LINE = "{first_line}"
"""As `ListenConfig.stream`: each connection's first line names its stream."""


class ListenConfig(Protocol):
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
    def max_connections(self) -> int: ...
    @property
    def max_record_bytes(self) -> int: ...
    @property
    def forward(self) -> ForwardConfig: ...


@dataclass(slots=True)
class Endpoint:
    """One socket's surroundings and its connections."""

    config: ListenConfig
    sink: Sink
    metrics: Metrics
    budget: ReceiveBudget
    producers: ProducerRegistry
    clock: Clock
    node: str
    rng: random.Random = field(default_factory=system_random)
    """For what nobody must guess."""
    connections: set[Connection] = field(default_factory=set)
    stopping: bool = False
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    def leave(self, connection: Connection) -> None:
        """The connection is closed."""
        self.connections.discard(connection)
        self._gone.set()

    async def one_gone(self) -> None:
        """Return when another connection has closed."""
        self._gone.clear()
        await self._gone.wait()
