"""A listener with a fake sink, on a socket below a test's folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_agent.clock import Clock, SystemClock
from hf_agent.config import Forward, Lines, Syslog
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.listener import Listener
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.metrics import Metrics
from support.fake_sink import FakeSink


@dataclass(frozen=True)
class SocketConfig:
    """What a `[[listen]]` table says."""

    path: str
    protocol: str = "append"
    stream: str = "app"
    mode: int = 0o660
    owner: str = ""
    group: str = ""
    allow_uids: tuple[str, ...] = ()
    allow_gids: tuple[str, ...] = ()
    allow_streams: tuple[str, ...] = ()
    max_connections: int = 100
    max_connections_per_uid: int = 0
    idle_timeout: float = 0.0
    connection_bytes_per_second: int = 0
    connection_burst_bytes: int = 0
    stream_bytes_per_second: int = 0
    stream_burst_bytes: int = 0
    max_record_bytes: int = 1 << 20
    forward: Forward = field(default_factory=Forward)
    syslog: Syslog = field(default_factory=Syslog)
    lines: Lines = field(default_factory=Lines)


class Setup:
    """A running listener and everything around it."""

    def __init__(self, config: SocketConfig, clock: Clock, budget_bytes: int) -> None:
        self.config = config
        self.path = Path(config.path)
        self.clock = clock
        self.sink = FakeSink()
        self.metrics = Metrics()
        self.producers = ProducerRegistry()
        self.budget = ReceiveBudget(budget_bytes, self.metrics, clock)
        self.listener = self.another(config)

    def another(self, config: SocketConfig) -> Listener:
        """One more listener of the same agent."""
        return Listener(
            config,
            self.sink,
            self.metrics,
            self.budget,
            self.clock,
            producers=self.producers,
            node="node-1",
        )

    def metric(self, name: str, **labels: str) -> float:
        """Value of a series, without the prefix."""
        value = self.metrics.registry.get_sample_value(f"hf_agent_{name}", labels)
        assert value is not None, name
        return value

    def rejected(self, reason: str) -> float:
        """How many records were refused for `reason`."""
        return self.metric("rejected_records_total", protocol=self.config.protocol, reason=reason)


@asynccontextmanager
async def listening(
    folder: Path,
    *,
    protocol: str = "append",
    stream: str = "app",
    max_record_bytes: int = 1 << 20,
    max_connections: int = 100,
    clock: Clock | None = None,
    budget_bytes: int = 64 << 20,
    forward: Forward | None = None,
    syslog: Syslog | None = None,
    access: Mapping[str, Any] | None = None,
    lines: Lines | None = None,
) -> AsyncIterator[Setup]:
    """A listener that is closed at the end, with everything of it gone.

    `access` are the keys of a `[[listen]]` table that say who may write what, and how much.
    """
    config = SocketConfig(
        str(folder / "agent.sock"),
        protocol=protocol,
        stream=stream,
        max_record_bytes=max_record_bytes,
        max_connections=max_connections,
        forward=forward or Forward(),
        syslog=syslog or Syslog(),
        **(access or {}),
        lines=lines or Lines(),
    )
    setup = Setup(config, clock or SystemClock(), budget_bytes)
    await setup.listener.start()
    try:
        yield setup
    finally:
        await setup.listener.close()
        await setup.budget.close()
        assert setup.listener.connections == 0
        assert setup.budget.held == 0, "a connection that is gone holds memory"
        assert len(setup.producers) == 0
