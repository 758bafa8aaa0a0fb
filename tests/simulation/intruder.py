"""A second agent on a WAL directory that is in use: refused for as long as the first one lives."""

from __future__ import annotations

import asyncio
import random

from hf_agent.service.core import wal_config
from hf_agent.wal import Wal, WalCorrupt, WalLocked, WalUnusable
from simulation.agent import Node
from simulation.disk import ROOT, ProcessDisk
from simulation.kernel import Kernel, Process
from simulation.loop import SimLoop

__all__ = ["Intruder"]


class Intruder:
    """Tries to open the node's WAL every now and then."""

    def __init__(self, kernel: Kernel, node: Node) -> None:
        self._kernel = kernel
        self._node = node
        self._later()

    def _later(self) -> None:
        self._kernel.after(self._kernel.rng.expovariate(0.05), self._try)

    def _try(self) -> None:
        self._later()
        # Only beside an agent that has the lock: who comes first, while it starts, may have it.
        if self._node.core is not None and self._node.process is not None:
            process = Process(self._kernel, "intruder")
            first = self._node.process
            SimLoop.of(process).begin(lambda: self._open(process, first))

    async def _open(self, process: Process, first: Process) -> None:
        kernel, node = self._kernel, self._node
        try:
            await asyncio.to_thread(
                Wal.open,
                ROOT,
                wal_config(node.config),
                disk=ProcessDisk(node.disk, process),
                clock=node.clock,
                rng=random.Random(0),
                threads=process,
            )
        except WalLocked:
            kernel.trace.event(kernel.now, "intruder-refused")
        except (WalUnusable, WalCorrupt) as error:
            kernel.trace.event(kernel.now, "intruder-failed", type(error).__name__)
        else:
            if not first.dead:
                kernel.fail("two processes have the same WAL open")
        process.kill()
