"""What works once the WAL is recovered: WAL, intake, flusher, store, listeners, wired together."""

from __future__ import annotations

import asyncio
import itertools
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from hf_agent.clock import Clock
from hf_agent.config import Config
from hf_agent.flusher.attachment import Attacher
from hf_agent.flusher.flusher import Flusher, FlushSettings
from hf_agent.flusher.preflight import Preflight
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.listener import Listener
from hf_agent.ingest.peers import Peer
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.ingest.receive_buffer import POOL
from hf_agent.metrics import PROTOCOLS, WAITS, Metrics
from hf_agent.service.store_options import s3_options
from hf_agent.service.store_start import abort_left_uploads, preflight_attempt
from hf_agent.store.base import Store
from hf_agent.store.url import open_store
from hf_agent.streams.intake import Intake
from hf_agent.streams.key import StreamKeys
from hf_agent.streams.listing import list_streams
from hf_agent.wal import Wal, WalConfig, WalState
from hf_agent.web.queries import StreamQuery

__all__ = ["Core", "flush_settings", "wal_config"]

_log = structlog.get_logger(__name__)


def wal_config(config: Config) -> WalConfig:
    """The WAL's settings in a configuration."""
    return WalConfig(
        file_bytes=config.wal.file_bytes,
        max_bytes=config.wal.max_bytes,
        max_batch_bytes=config.wal.max_batch_bytes,
        max_pending_bytes=config.wal.max_pending_bytes,
        max_streams=config.agent.max_streams,
        max_marks=config.wal.max_producers,
        max_binary_marks=config.wal.max_chunk_ids,
        max_record_bytes=max(listen.max_record_bytes for listen in config.listen),
    )


def flush_settings(config: Config) -> FlushSettings:
    """The flusher's settings in a configuration."""
    flush = config.flush
    return FlushSettings(
        interval=flush.interval,
        bytes=flush.bytes,
        concurrency=flush.concurrency,
        retry_min=flush.retry_min,
        retry_max=flush.retry_max,
    )


class Core:
    """One recovered WAL and everything that feeds and drains it."""

    def __init__(
        self,
        config: Config,
        wal: Wal,
        *,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_wal_failed: Callable[[], None],
        on_defect: Callable[[BaseException], None],
        store: Store | None = None,
    ) -> None:
        """`store` takes the place of the configured one."""
        self.wal = wal
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._on_wal_failed = on_wal_failed
        self.store = store or _open_store(config, clock=clock, rng=rng, metrics=metrics)
        self.intake = Intake(
            wal,
            clock=clock,
            metrics=metrics,
            flush_bytes=config.flush.bytes,
            when_full=config.wal.when_full,
            max_chunk_age=config.wal.max_chunk_age,
        )
        self._keys = StreamKeys(config.store.key, config.agent.node)
        attacher = Attacher(
            wal=wal,
            store=self.store,
            root=config.store.url,
            keys=self._keys,
            block_size=config.flush.block_size,
            clock=clock,
            rng=rng,
            durable=self.intake.durable,
            on_conflict=self._conflict,
        )
        self.preflight = Preflight(
            preflight_attempt(self.store, clock=clock, rng=rng),
            retry_min=config.flush.retry_min,
            retry_max=config.flush.retry_max,
            clock=clock,
            rng=rng,
            metrics=metrics,
            on_defect=on_defect,
        )
        self.flusher = Flusher(
            wal=wal,
            intake=self.intake,
            attacher=attacher,
            settings=flush_settings(config),
            clock=clock,
            rng=rng,
            metrics=metrics,
            on_defect=on_defect,
            preflight=self.preflight,
        )
        self._clean_up: asyncio.Task[None] | None = None
        self._listeners: list[Listener] = []
        self._budget: ReceiveBudget | None = None

    # -- lifecycle -------------------------------------------------------------------------

    def start(self) -> None:
        """Start the WAL's thread and the flusher; appends are taken from now on."""
        loop = asyncio.get_running_loop()
        duration = self._metrics.wal_sync_duration
        self.wal.sync_observer = lambda seconds, nbytes: duration.observe(seconds)
        self.wal.start(
            hold=True,
            on_durable=lambda batch: _post(loop, self.intake.batch_durable, batch),
            on_state=lambda state: _post(loop, self._wal_state_changed, state),
        )
        self.intake.attach(self.flusher)
        self.flusher.start()
        # Beside the flushes, not before them: it may take long, and it may fail.
        self._clean_up = asyncio.create_task(
            self._abort_left_uploads(before=self._clock.time()), name="abort left uploads"
        )

    async def listen(self) -> int:
        """Open every socket; returns how many. Raises ListenerError."""
        config = self._config
        self._budget = ReceiveBudget(config.agent.receive_buffer_bytes, self._metrics, self._clock)
        producers = ProducerRegistry()
        for listen in config.listen:
            listener = Listener(
                listen,
                self.intake,
                self._metrics,
                self._budget,
                self._clock,
                producers=producers,
                node=config.agent.node,
            )
            await listener.start()
            self._listeners.append(listener)
            _log.info("listening", path=listen.path, protocol=listen.protocol)
        return len(self._listeners)

    async def stop_listening(self, grace: float) -> None:
        """Take no more connections; the open ones have `grace` seconds to end what was read."""
        for listener in self._listeners:
            listener.stop_accepting()
        await asyncio.gather(*(listener.close(grace) for listener in self._listeners))

    async def flush_all(self, seconds: float) -> None:
        """Flush everything at once, for as long as there is time; the rest stays in the WAL."""
        try:
            async with asyncio.timeout(seconds):
                await self.intake.flush(None)
        except TimeoutError:
            _log.warning(
                "stopped before everything was flushed; the rest stays in the WAL and goes on at "
                "the next start",
                bytes=sum(state.unflushed for state in self.intake.unflushed()),
                seconds=seconds,
            )
        else:
            _log.info("everything is flushed")

    async def close(self) -> None:
        """Stop flushing and close WAL and store."""
        if self._budget is not None:
            await self._budget.close()
        await self.flusher.stop()
        if self._clean_up is not None:
            self._clean_up.cancel()
            await asyncio.gather(self._clean_up, return_exceptions=True)
        await asyncio.to_thread(self.wal.close)
        await self.store.close()

    # -- events ----------------------------------------------------------------------------

    def flush_now(self) -> None:
        """Flush every stream at once, without waiting for it."""
        for state in self.intake.unflushed():
            self.flusher.urge(state.name, force=True)

    def tick(self) -> None:
        """Look at what no event announces; call it about once a second."""
        self.flusher.relieve_wal()
        self.intake.wake_room()
        POOL.trim()
        self._metrics.kept_receive_buffer_bytes.set(POOL.kept_bytes)

    async def _abort_left_uploads(self, *, before: float) -> None:
        await self.preflight.passed.wait()
        await abort_left_uploads(self.store, self._keys.own_prefix, before=before)

    def _conflict(self, stream: str, key: str) -> None:
        self._metrics.store_conflicts.inc()
        self.intake.states[stream].met_conflict(key, self._clock.time())

    def _wal_state_changed(self, state: WalState) -> None:
        if state.kind == "full":
            _log.error(
                "WAL full: clients wait or are refused until the store has taken some of it",
                reason=state.reason,
            )
            self.flusher.relieve_wal()
        elif state.kind == "failed":
            _log.error(
                "WAL failed: nothing more is acknowledged; restart the agent when the disk is well",
                reason=state.reason,
            )
            self._on_wal_failed()
        elif state.kind == "ok":
            _log.info("WAL has room again")
        self.intake.wal_state_changed(state)

    # -- what others may ask ---------------------------------------------------------------

    @property
    def unfit(self) -> str:
        """Why the store failed the preflight; empty when it did not, or was merely away."""
        return self.preflight.reason if self.preflight.state == "refused" else ""

    def streams(self, query: StreamQuery) -> tuple[list[dict[str, Any]], int]:
        """The rows of `/api/streams`, and how many there would be without a limit."""
        found = list_streams(self.intake.states.values(), **query._asdict())
        return [state.describe() for state in found.streams], found.matched

    def peers(self) -> Iterator[Peer]:
        """Who is connected, once for each connection."""
        return itertools.chain.from_iterable(each.peers() for each in self._listeners)

    def status(self) -> dict[str, Any]:
        """The part of the status that needs a recovered WAL."""
        wal = self.wal
        unflushed = list(self.intake.unflushed())
        return {
            "wal": {
                "id": wal.id.hex(),
                "state": wal.state.kind,
                "reason": wal.state.reason,
                "size_bytes": wal.size_bytes,
                "max_bytes": wal.max_bytes,
                "pending_bytes": wal.pending_bytes,
            },
            "store": {
                "url": self._config.store.url,
                "away": self.preflight.state == "away" or self.flusher.store_away,
                "preflight": self.preflight.state,
                "reason": self.preflight.reason,
            },
            "streams": len(self.intake.states),
            "diverted_streams": sum(state.diverted for state in self.intake.states.values()),
            "unflushed_streams": len(unflushed),
            "unflushed_bytes": sum(state.unflushed for state in unflushed),
            "oldest_unflushed_timestamp": min((state.since for state in unflushed), default=0.0),
        }

    def refresh_gauges(self) -> None:
        """Set the gauges that are read off the state of this moment."""
        metrics, wal = self._metrics, self.wal
        metrics.wal_size.set(wal.size_bytes)
        metrics.wal_pending.set(wal.pending_bytes)
        metrics.streams.set(len(self.intake.states))
        waits = Counter(itertools.chain.from_iterable(each.waits() for each in self._listeners))
        for labels in itertools.product(PROTOCOLS, WAITS):
            metrics.waiting_connections.labels(*labels).set(waits[labels])
        oldest, nbytes = 0.0, 0
        for state in self.intake.unflushed():
            nbytes += state.unflushed
            oldest = min(oldest, state.since) if oldest else state.since
        metrics.wal_oldest_unflushed.set(oldest)
        metrics.wal_unflushed.set(nbytes)
        metrics.diverted_streams.set(sum(state.diverted for state in self.intake.states.values()))
        try:
            disk = shutil.disk_usage(self._config.wal.dir)
        except OSError:
            return  # the last figures stand; a disk that is gone fails the next write, loudly
        metrics.wal_disk_size.set(disk.total)
        metrics.wal_disk_free.set(disk.free)


def _open_store(config: Config, *, clock: Clock, rng: random.Random, metrics: Metrics) -> Store:
    def observe(operation: str, code: str, seconds: float) -> None:
        metrics.store_requests.labels(operation, code).inc()
        metrics.store_request_duration.labels(operation).observe(seconds)

    return open_store(
        config.store.url,
        options=s3_options(config.store.s3, config.flush),
        clock=clock,
        rng=rng,
        observer=observe,
    )


def _post(loop: asyncio.AbstractEventLoop, function: Callable[[Any], None], argument: Any) -> None:
    """Call on the loop from the WAL's thread; a loop that has ended needs no word any more."""
    try:
        loop.call_soon_threadsafe(function, argument)
    except RuntimeError:
        if not loop.is_closed():
            raise
