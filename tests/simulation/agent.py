"""A simulated node: one machine's disk, and the agent on it, wired by the service's own core."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from hf_agent.config import Config
from hf_agent.ingest.admission import Admission
from hf_agent.ingest.append_connection import AppendConnection
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.endpoint import Endpoint
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.metrics import Metrics
from hf_agent.service.core import Core, wal_config
from hf_agent.wal import Wal, WalLocked, WalUnusable
from simulation.disk import ROOT, Disk, ProcessDisk
from simulation.kernel import Kernel, Process
from simulation.loop import SimClock, SimLoop
from simulation.network import Link, SimPeer
from simulation.store import Bucket, SimStore

__all__ = ["Node"]

_TICK = 1.0
_METRICS = Metrics()
"""One for all: to make them takes longer than a life, and nothing looks at them here."""


class Node:
    """A machine with an agent, which a supervisor starts again whenever it has ended."""

    def __init__(self, kernel: Kernel, bucket: Bucket, config: Config, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.disk = Disk(kernel)
        self.clock = SimClock(kernel)
        self.config = config
        self.process: Process | None = None
        self.core: Core | None = None
        self.restarts = True
        self._bucket = bucket
        self._endpoint: Endpoint | None = None
        self._loop: SimLoop | None = None
        self._stop: asyncio.Event | None = None
        self._lives = 0
        self._connections: list[AppendConnection] = []

    # -- what happens to it ----------------------------------------------------------------

    def boot(self) -> None:
        """Start the agent, unless it runs."""
        if self.process is not None and not self.process.dead:
            return
        self._lives += 1
        self._connections = []
        self.process = process = Process(self.kernel, f"{self.name}-{self._lives}")
        process.on_death.append(lambda: self._died(process))
        self._loop = SimLoop.of(process)
        self.kernel.trace.event(self.kernel.now, "boot", process.name)
        self._loop.begin(lambda: self._main(process))

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and not self.process.dead:
            self.kernel.trace.event(self.kernel.now, "kill", self.process.name)
            self.process.kill()

    def lose_power(self, others: list[Process]) -> None:
        """The machine stops: every process on it, and what its disk did not sync."""
        self.kernel.trace.event(self.kernel.now, "power-loss", self.name)
        running = self.kernel.current
        doomed = [*others, *([self.process] if self.process is not None else [])]
        # The disk forgets only once nobody runs on this machine any more.
        for process in doomed:
            if running is None or running.process is not process:
                process.kill()
        self.disk.lose_power()
        for process in doomed:
            process.kill()

    def stop(self) -> None:
        """SIGTERM."""
        if self._loop is not None and self._stop is not None and self.process is not None:
            self.kernel.trace.event(self.kernel.now, "sigterm", self.process.name)
            self._loop.call_soon_threadsafe(self._stop.set)

    def _died(self, process: Process) -> None:
        self._endpoint = self.core = self._stop = None
        if self.restarts:
            self.kernel.after(0.1 + self.kernel.rng.random() * 3.0, self.boot)

    # -- its clients -----------------------------------------------------------------------

    def connect(self, on_data: Callable[[bytes], None], on_end: Callable[[], None]) -> Link | None:
        """Connect to the agent's socket; None when nobody listens there."""
        if self._endpoint is None or self.process is None or self._loop is None:
            return None
        connection = AppendConnection(self._endpoint)
        self._connections.append(connection)
        return Link(self.kernel, self.process, self._loop, connection, on_data, on_end)

    # -- the agent -------------------------------------------------------------------------

    async def _main(self, process: Process) -> None:
        kernel = self.kernel
        rng = random.Random(kernel.rng.getrandbits(64))
        try:
            wal = await asyncio.to_thread(
                Wal.open,
                ROOT,
                wal_config(self.config),
                disk=ProcessDisk(self.disk, process),
                clock=self.clock,
                rng=rng,
                threads=process,
            )
        except (WalUnusable, WalLocked) as error:
            kernel.trace.event(kernel.now, "no-start", process.name, type(error).__name__)
            process.kill()
            return
        if wal.recovery.torn is not None:
            kernel.trace.count("torn-tail")
        core = Core(
            self.config,
            wal,
            clock=self.clock,
            rng=rng,
            metrics=_METRICS,
            on_wal_failed=lambda: self._end(process, "wal-failed"),
            on_defect=lambda error: kernel.fail(f"defect of {process.name}: {error!r}", error),
            store=SimStore(self._bucket, process),
        )
        if kernel.rng.random() < 0.7:
            core.preflight._attempt = _passes  # fifty requests, which are much the same each time
        self.core = core
        core.start()
        budget = ReceiveBudget(self.config.agent.receive_buffer_bytes, _METRICS, self.clock)
        listen = self.config.listen[0]
        self._endpoint = endpoint = Endpoint(
            *(listen, Admission(listen), core.intake, _METRICS, budget, ProducerRegistry()),
            *(self.clock, self.config.agent.node),
            rng=rng,
            other_end=SimPeer,
        )
        self._stop = stop = asyncio.Event()
        ticker = asyncio.create_task(self._tick(core))
        await stop.wait()
        # As `Agent.stop` does.
        deadline = self.config.flush.shutdown_timeout
        ticker.cancel()
        endpoint.stopping = True
        for connection in self._connections:  # a set's order differs from run to run
            if connection in endpoint.connections:
                connection.drain()
        try:
            async with asyncio.timeout(deadline):
                while endpoint.connections:
                    await endpoint.one_gone()
        except TimeoutError:
            pass
        await core.flush_all(deadline)
        await core.close()
        kernel.trace.event(kernel.now, "exit", process.name)
        process.kill()

    async def _tick(self, core: Core) -> None:
        while True:
            await self.clock.sleep(_TICK)
            core.tick()

    def _end(self, process: Process, why: str) -> None:
        self.kernel.trace.event(self.kernel.now, why, process.name)
        process.kill()


async def _passes() -> None:
    """The store is fit."""
