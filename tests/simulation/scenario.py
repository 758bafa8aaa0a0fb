"""One run from one seed: who takes part, what happens, and how it is judged."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from hf_agent.config import Config
from hf_agent.config.model import Agent, Flush, Listen, Store, Wal
from simulation.agent import Node
from simulation.checker import Checker
from simulation.client import Client
from simulation.foreign import ForeignWriter
from simulation.intruder import Intruder
from simulation.kernel import Kernel
from simulation.operations import Operator
from simulation.reader import SimReader
from simulation.store import Bucket
from simulation.trace import Trace

__all__ = ["Result", "run_seed"]

_PATIENCE = 4 * 3600.0
"""Seconds of simulated time in which everything must have come to rest once nothing fails."""
_NODE = "n"


@dataclass(frozen=True)
class Result:
    """What a seed did."""

    seed: int
    digest: str
    events: int
    simulated_seconds: float
    counts: Counter[str]


def run_seed(seed: int, *, write: Callable[[str], None] | None = None) -> Result:
    """Run one seed; `write` is given each event. Raises `AssertionError`."""
    with _quiet():
        return _Run(seed, write).run()


class _Run:
    def __init__(self, seed: int, write: Callable[[str], None] | None) -> None:
        self.seed = seed
        self.kernel = kernel = Kernel(seed, Trace(write))
        self.bucket = Bucket(kernel)
        self.checker = Checker(kernel, self.bucket, _NODE)
        rng = kernel.rng
        config = _config(rng)
        self.nodes = [Node(kernel, self.bucket, config, "a")]
        if rng.random() < 0.2:  # a copied configuration: the same keys from another machine
            self.nodes.append(Node(kernel, self.bucket, config, "b"))
        self.clients: list[Client] = []
        streams = ["s", "t/u", "v"][: rng.randrange(1, 4)]
        for node in self.nodes:
            for number in range(rng.randrange(1, 4)):
                self.clients.append(
                    Client(
                        *(kernel, node, self.checker, f"{node.name}{number}"),
                        rng.sample(streams, rng.randrange(1, len(streams) + 1)),
                        producer=rng.random() < 0.7,
                        rate=rng.choice((0.5, 2.0, 5.0)),
                        appends=rng.choice((20, 60, 150)),
                        max_size=rng.choice((300, 2000, 6000)),
                    )
                )
        self.checker.durable = self._is_durable
        for node in self.nodes:
            node.disk.on_freed = self.checker.freed
            node.boot()
        self.operator = Operator(
            kernel, self.nodes, self.bucket, self.clients, rng.choice((0.1, 0.3, 1.0))
        )
        self.foreign = (
            ForeignWriter(kernel, self.bucket, self.checker, [f"{_NODE}/{s}" for s in streams])
            if rng.random() < 0.25
            else None
        )
        self.reader = SimReader(kernel, self.bucket, self.checker)
        self.intruder = Intruder(kernel, self.nodes[0])

    def _is_durable(self, data: bytes) -> bool:
        return any(data in image for node in self.nodes for image in node.disk.durable_images())

    def run(self) -> Result:
        kernel = self.kernel
        kernel.run(kernel.rng.choice((20.0, 40.0, 80.0)))
        for client in self.clients:
            client.stopping = True
        if self.foreign is not None:
            self.foreign.stopping = True
        self.operator.heal()
        kernel.trace.event(kernel.now, "heal")
        limit = kernel.now + _PATIENCE
        while not self._at_rest() and kernel.now < limit:
            kernel.run(kernel.now + 10.0)
        assert self._at_rest(), f"not at rest after {_PATIENCE:.0f} s: {self._unrest()}"
        self.reader.look()
        kernel.run(kernel.now + 10.0)
        self.checker.finish()
        return Result(
            *(self.seed, kernel.trace.digest, kernel.trace.length, kernel.now, kernel.trace.counts)
        )

    def _at_rest(self) -> bool:
        return not self._unrest()

    def _unrest(self) -> str:
        for client in self.clients:
            if not client.is_done:
                return f"client {client.name} waits for answers"
        for node in self.nodes:
            if node.core is None:
                return f"node {node.name} does not run"
            if unflushed := sum(state.unflushed for state in node.core.intake.unflushed()):
                return f"node {node.name} has {unflushed} bytes unflushed"
        if self.foreign is not None and self.foreign.is_busy:
            return "the foreign writer writes"
        return f"{self.checker.unstored} appends are not stored" if self.checker.unstored else ""


def _config(rng: random.Random) -> Config:
    file_bytes = rng.choice((32, 32, 48)) << 10
    return Config(
        listen=(Listen(path="/simulated", max_record_bytes=8 << 10),),
        store=Store(url="s3://simulated"),
        agent=Agent(node=_NODE),
        wal=Wal(
            dir="/wal",
            file_bytes=file_bytes,
            max_bytes=file_bytes * rng.choice((2, 3, 5)),
            when_full="reject" if rng.random() < 0.2 else "block",
            max_batch_bytes=4 << 20,
            max_pending_bytes=16 << 20,
        ),
        flush=Flush(
            interval=rng.choice((0.5, 2.0, 10.0)),
            bytes=rng.choice((4, 16, 64)) << 10,
            block_size=4096,
            shutdown_timeout=rng.choice((0.5, 10.0)),
            retry_min=0.2,
            retry_max=rng.choice((2.0, 30.0)),
        ),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the agent's own log, and without collections, whose moments are not repeatable."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    enabled = gc.isenabled()
    gc.disable()
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        structlog.configure(**before)
        if enabled:
            gc.enable()
