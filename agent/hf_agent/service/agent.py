"""The agent's life: recover, run, stop; and what it says of itself on the way."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import structlog

from hf_agent import __version__, native
from hf_agent.clock import Clock
from hf_agent.config import Config
from hf_agent.config.expand import host_name
from hf_agent.metrics import Metrics
from hf_agent.recent import RecentEvents
from hf_agent.service.core import Core, flush_settings, wal_config
from hf_agent.service.data_dir import make_data_dir
from hf_agent.service.exit_status import ExitStatus
from hf_agent.service.health import Phase, readiness
from hf_agent.service.overview import Overview
from hf_agent.service.sd_notify import Notifier
from hf_agent.wal import Disk, OsDisk, Recovery, Wal
from hf_agent.web.queries import StreamQuery
from hf_agent.web.server import WebServer

__all__ = ["Agent"]

_log = structlog.get_logger(__name__)

_TICK = 1.0
"""Seconds between two looks at what no event announces, and between two watchdog messages."""


class Agent:
    """The agent of one configuration. `start`, then `run`, then `stop`, each once."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        disk: Disk | None = None,
        events: RecentEvents | None = None,
    ) -> None:
        """`events` are shown to people; somebody has to make it part of the log."""
        self.config = config
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._disk = disk if disk is not None else OsDisk()
        self._phase = Phase.STARTING
        self._started = clock.time()
        self._outcome: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.notifier = Notifier.from_environment()
        self._ticker: asyncio.Task[None] | None = None
        self._core: Core | None = None
        self._overview = Overview(
            clock=clock,
            metrics=metrics,
            events=events or RecentEvents(clock.time),
            status=self.status,
        )
        self._web = WebServer(
            config.http.listen,
            metrics=metrics,
            health=self.health,
            ready=self.ready,
            status=self.status,
            streams=self.streams,
            overview=self._overview.describe,
            refresh=self._refresh,
            host_names=(host_name(), *config.http.allowed_hosts),
        )

    async def start(self) -> None:
        """Answer over HTTP, recover the WAL, then take appends.

        Raises the errors of the web server, the WAL and the listeners; call `stop` after them too.
        """
        config = self.config
        make_data_dir(config.agent.data_dir)
        await self._web.start()
        # Recovery may read gigabytes: not on the loop, so that probes are answered meanwhile.
        wal = await asyncio.to_thread(
            Wal.open,
            Path(config.wal.dir),
            wal_config(config),
            disk=self._disk,
            clock=self._clock,
            rng=self._rng,
        )
        _log_recovery(wal.recovery)
        self._metrics.wal_corruptions.inc(wal.recovery.corruptions)
        self._core = self._overview.core = core = Core(
            config,
            wal,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            on_wal_failed=lambda: self._end(ExitStatus.WAL_DISK_FAILED),
            on_defect=lambda error: self._end(ExitStatus.FAILED),
        )
        core.intake.status_source = self.status
        self._set_limits()
        core.start()
        sockets = await core.listen()
        self._ticker = asyncio.create_task(self._tick(), name="ticker")
        self._phase = Phase.RUNNING
        self.notifier.ready(f"taking appends on {sockets} sockets")
        _log.info(
            "ready",
            version=__version__,
            native=native.available(),
            node=config.agent.node,
            store=config.store.url,
        )

    async def run(self) -> ExitStatus:
        """Return when a stop is requested, or when something failed that cannot be lived with."""
        return await self._outcome

    async def stop(self, status: ExitStatus) -> None:
        """Take nothing more, make what was read durable, flush what time allows, close all."""
        well = status is ExitStatus.DONE
        self._phase = Phase.DRAINING if well else Phase.FAILED
        self.notifier.stopping()
        deadline = self._clock.monotonic() + (self.config.flush.shutdown_timeout if well else 0.0)
        if self._ticker is not None:
            self._ticker.cancel()
            await asyncio.gather(self._ticker, return_exceptions=True)
        if self._core is not None:
            await self._core.stop_listening(max(0.0, deadline - self._clock.monotonic()))
            if well:
                await self._core.flush_all(max(0.0, deadline - self._clock.monotonic()))
            await self._core.close()
        await self._web.stop()

    # -- requests --------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Have `run` return."""
        self._end(ExitStatus.DONE)

    def flush_now(self) -> None:
        """Flush every stream at once."""
        if self._core is not None:
            self._core.flush_now()

    def reconfigure(self, config: Config) -> None:
        """Take over what a running agent can of `config` (see `service.reload`)."""
        self.config = config
        if self._core is not None:
            self._core.flusher.reconfigure(flush_settings(config))

    def _end(self, status: ExitStatus) -> None:
        if status is not ExitStatus.DONE:
            self._phase = Phase.FAILED
        if not self._outcome.done():
            self._outcome.set_result(status)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(_TICK)
            if self._core is not None:
                self._core.tick()
            self._overview.tick()
            self.notifier.watchdog()

    # -- what others may ask ---------------------------------------------------------------

    def health(self) -> tuple[bool, list[str]]:
        """Whether the process works. Does not depend on the store."""
        return (False, ["failed"]) if self._phase is Phase.FAILED else (True, [])

    def ready(self) -> tuple[bool, list[str]]:
        """Whether appends are taken, with every reason why not."""
        core = self._core
        if core is None:
            return False, ["recovering the WAL"]
        return readiness(
            self._phase, core.wal.state, unfit=core.unfit, refused=core.flusher.refused
        )

    def streams(self, query: StreamQuery) -> tuple[list[dict[str, Any]], int]:
        """See `Core.streams`."""
        return self._core.streams(query) if self._core is not None else ([], 0)

    def status(self) -> dict[str, Any]:
        """What `/api/status` and the command `status` show."""
        ready, reasons = self.ready()
        status: dict[str, Any] = {
            "version": __version__,
            "node": self.config.agent.node,
            "phase": self._phase.value,
            "started_timestamp": self._started,
            "ready": ready,
            "reasons": reasons,
            "listen": [
                {"path": listen.path, "protocol": listen.protocol} for listen in self.config.listen
            ],
            "http": self._web.address,
        }
        if self._core is not None:
            status.update(self._core.status())
        return status

    def _refresh(self) -> None:
        self._metrics.asyncio_tasks.set(len(asyncio.all_tasks()))
        self._metrics.ready.set(self.ready()[0])
        if self._core is not None:
            self._core.refresh_gauges()

    def _set_limits(self) -> None:
        config, metrics = self.config, self._metrics
        metrics.wal_max_size.set(config.wal.max_bytes)
        metrics.wal_max_pending.set(config.wal.max_pending_bytes)
        metrics.max_streams.set(config.agent.max_streams)


def _log_recovery(recovery: Recovery) -> None:
    if recovery.torn is not None:
        file, offset, nbytes = recovery.torn
        _log.warning(
            "cut a torn tail: it was never acknowledged", file=file, offset=offset, bytes=nbytes
        )
    _log.info(
        "WAL recovered",
        files=recovery.files,
        records=recovery.records,
        bytes=recovery.bytes,
        streams=recovery.streams,
        seconds=round(recovery.seconds, 3),
    )
