"""A foreign writer: appends to the containers of the agent's streams, as somebody else."""

from __future__ import annotations

import random

from hf_agent.hyperfile import ConflictError, HyperfileError, NoSuchContainer
from hf_agent.hyperfile.appender import Appender
from hf_agent.store.base import StoreError, StoreRefused, StoreRetry
from simulation import records
from simulation.checker import Checker
from simulation.kernel import Kernel, Process
from simulation.loop import SimClock, SimLoop
from simulation.records import Name
from simulation.store import Bucket, SimStore

__all__ = ["ForeignWriter"]

_NAME = "foreign"


class ForeignWriter:
    """Opens a container every few seconds, appends something, and sometimes dies of it."""

    def __init__(self, kernel: Kernel, bucket: Bucket, checker: Checker, keys: list[str]) -> None:
        self.stopping = False
        self.is_busy = False
        self._kernel = kernel
        self._bucket = bucket
        self._checker = checker
        self._keys = keys
        self._number = 0
        self._process: Process | None = None
        checker.clients[_NAME] = True
        self._later()

    def _later(self) -> None:
        self._kernel.after(self._kernel.rng.expovariate(0.4), self._begin)

    def _begin(self) -> None:
        if self.stopping:
            return
        self._process = process = Process(self._kernel, _NAME)
        self.is_busy = True
        SimLoop.of(process).begin(lambda: self._write(process))
        if self._kernel.rng.random() < 0.3:
            self._kernel.after(self._kernel.rng.random() * 0.15, lambda: self._end(process))

    def _end(self, process: Process) -> None:
        if not process.dead:
            self.is_busy = False
            self._later()
            process.kill()

    async def _write(self, process: Process) -> None:
        rng = random.Random(self._kernel.rng.getrandbits(64))
        key = rng.choice(self._keys)
        clock = SimClock(self._kernel)
        store = SimStore(self._bucket, process)
        writer_id = rng.randbytes(16)
        try:
            try:
                appender = await Appender.open(
                    store, key, clock=clock, rng=rng, writer_id=writer_id
                )
            except NoSuchContainer:
                inode = Appender.prepare_inode(clock.time(), 4096)
                appender = await Appender.create(
                    store, key, inode, clock=clock, rng=rng, writer_id=writer_id, mark="made"
                )
            await self._append(appender, key, rng, clock)
        except (StoreError, HyperfileError) as error:
            self._kernel.trace.event(self._kernel.now, "foreign-failed", type(error).__name__)
        self._end(process)

    async def _append(
        self, appender: Appender, key: str, rng: random.Random, clock: SimClock
    ) -> None:
        position = 0
        for _ in range(rng.randrange(1, 4)):
            self._number += 1
            name = Name(_NAME, self._number)
            data = records.make(name, rng.randrange(40, 6000))
            self._checker.sends(name, [key.partition("/")[2]], data)
            build = await appender.begin(len(data))
            build.body[:] = data
            position += len(data)
            while True:
                try:
                    await appender.commit(build, position=position)
                except (StoreRetry, StoreRefused):
                    await clock.sleep(0.5)  # the same build again: nothing is written twice
                except ConflictError:
                    self._kernel.trace.count("foreign-conflict")
                    raise
                else:
                    self._checker.acknowledged(name)
                    break
            await clock.sleep(rng.random() * 2.0)
