"""A WAL, an intake and a flusher around a store of a test's choice, as the service wires them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Literal

from hf_agent.clock import Clock, SystemClock
from hf_agent.flusher.attachment import Attacher
from hf_agent.flusher.flusher import Flusher, FlushSettings
from hf_agent.flusher.preflight import Preflight
from hf_agent.hyperfile import Reader
from hf_agent.metrics import Metrics
from hf_agent.store.base import Store
from hf_agent.streams.intake import Intake
from hf_agent.streams.key import StreamKeys
from hf_agent.wal import Disk, OsDisk, Wal, WalConfig

ROOT = "memory://store"


class Flushing:
    """`start` and `stop` as often as a test likes; the WAL's folder and the store stay."""

    def __init__(
        self,
        folder: Path,
        store: Store,
        *,
        seed: int = 1,
        interval: float = 3600.0,
        flush_bytes: int = 1 << 20,
        block_size: int = 4096,
        wal: WalConfig | None = None,
        when_full: Literal["block", "reject"] = "block",
        template: str = "{node}/{stream}",
        clock: Clock | None = None,
        preflight: Preflight | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.folder = folder
        self.store = store
        self.rng = random.Random(seed)
        self.block_size = block_size
        self.template = template
        self.preflight = preflight
        self.disk = disk or OsDisk()
        self.clock = clock or SystemClock()
        self.when_full: Literal["block", "reject"] = when_full
        self.wal_config = wal or WalConfig(
            file_bytes=256 << 10,
            max_bytes=8 << 20,
            max_record_bytes=64 << 10,
            max_batch_bytes=64 << 10,
        )
        self.settings = FlushSettings(
            interval=interval, bytes=flush_bytes, concurrency=4, retry_min=0.001, retry_max=0.01
        )
        self.defects: list[BaseException] = []

    async def start(self) -> Flushing:
        clock = self.clock
        self.metrics = Metrics()
        self.wal = Wal.open(self.folder, self.wal_config, disk=self.disk, clock=clock, rng=self.rng)
        loop = asyncio.get_running_loop()
        self.intake = Intake(
            self.wal,
            clock=clock,
            metrics=self.metrics,
            flush_bytes=self.settings.bytes,
            when_full=self.when_full,
        )
        attacher = Attacher(
            wal=self.wal,
            store=self.store,
            root=ROOT,
            keys=StreamKeys(self.template, "n"),
            block_size=self.block_size,
            clock=clock,
            rng=self.rng,
            durable=self.intake.durable,
            on_conflict=self._conflict,
        )
        self.flusher = Flusher(
            wal=self.wal,
            intake=self.intake,
            attacher=attacher,
            settings=self.settings,
            clock=clock,
            rng=self.rng,
            metrics=self.metrics,
            on_defect=self.defects.append,
            preflight=self.preflight,
        )
        self.wal.start(
            hold=True,
            on_durable=lambda batch: loop.call_soon_threadsafe(self.intake.batch_durable, batch),  # type: ignore[arg-type]
            on_state=lambda state: loop.call_soon_threadsafe(self.intake.wal_state_changed, state),  # type: ignore[arg-type]
        )
        self.intake.attach(self.flusher)
        self.flusher.start()
        return self

    def _conflict(self, stream: str, key: str) -> None:
        self.metrics.store_conflicts.inc()
        self.intake.states[stream].met_conflict(key, self.clock.time())

    @property
    def conflicts(self) -> int:
        """True conflicts in this life, by the metric."""
        return int(self.metrics.store_conflicts._value.get())

    async def stop(self) -> None:
        """End without a flush, as a crash would; what was durable stays in the WAL."""
        await self.flusher.stop()
        await asyncio.to_thread(self.wal.close)
        assert not self.defects, self.defects

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def put(self, stream: str, *appends: bytes) -> None:
        """Append, and return when all of it is durable."""
        for data in appends:
            self.intake.append(stream, data, records=1, mark=None)
        await self.intake.durable(self.intake.barrier())

    async def flush(self, stream: str | None = None) -> None:
        """Flush, and fail rather than hang."""
        async with asyncio.timeout(30):
            await self.intake.flush(stream)

    async def stored(self, key: str) -> bytes:
        """The whole content of a container."""
        reader = await Reader.open(self.store, key)
        return await reader.read(0, reader.size)
