"""Runs the flushes of all streams: when, how many at once, and what follows a failure.

Every failure keeps the data: it stays in the WAL, and the stream is tried again, for ever. See
`Troubles` for what is logged of it.
"""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import structlog

from hf_agent.clock import Clock
from hf_agent.flusher.alarm import Alarm
from hf_agent.flusher.attachment import Attacher
from hf_agent.flusher.backoff import Backoff
from hf_agent.flusher.preflight import Preflight
from hf_agent.flusher.schedule import Schedule
from hf_agent.flusher.stream_flush import Flushed, StreamFlush
from hf_agent.flusher.troubles import Troubles
from hf_agent.hyperfile import ConflictError, HyperfileError, StaleVersion
from hf_agent.metrics import Metrics
from hf_agent.recent import FlushDone, RecentFlushes
from hf_agent.store.base import StoreConflict, StoreError, StoreNotFound, StoreRetry
from hf_agent.streams.intake import Intake
from hf_agent.streams.state import StreamState
from hf_agent.wal import Wal, WalCorrupt, WalError

__all__ = ["FlushSettings", "Flusher"]

_log = structlog.get_logger(__name__)

_PRESSURE = 0.5
"""Share of the WAL in use from which streams that pin its oldest file are flushed for that."""


@dataclass(slots=True)
class FlushSettings:
    """What the configuration says of flushing. Seconds and bytes."""

    interval: float
    bytes: int
    concurrency: int
    retry_min: float
    retry_max: float
    cache_bytes: int = 32 << 20
    """Tail blocks and map nodes kept between flushes, over all streams."""


class Flusher:
    """The one task that starts flushes, and the tasks that run them."""

    def __init__(
        self,
        *,
        wal: Wal,
        intake: Intake,
        attacher: Attacher,
        settings: FlushSettings,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_defect: Callable[[BaseException], None],
        preflight: Preflight | None = None,
    ) -> None:
        """`on_defect` is told of an error that is the agent's own, not the world's.

        No flush starts before the store has passed `preflight`, where there is one.
        """
        self._on_defect = on_defect
        self._wal = wal
        self._intake = intake
        self._attacher = attacher
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._preflight = preflight
        self._troubles = Troubles(metrics)
        self.recent = RecentFlushes()
        self._schedule = Schedule(interval=settings.interval, concurrency=settings.concurrency)
        self._store_backoff = Backoff(settings.retry_min, settings.retry_max, rng)
        self._backoffs: dict[str, Backoff] = {}
        self._flushes: dict[str, StreamFlush] = {}
        self._cached: OrderedDict[str, int] = OrderedDict()
        self._cached_total = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._until_durable: set[str] = set()
        """Streams to be flushed once what they have is durable."""
        self._wake = asyncio.Event()
        self._alarm = Alarm(clock, self._wake.set)
        self._runner: asyncio.Task[None] | None = None
        metrics.flush_concurrency.set(settings.concurrency)
        metrics.flush_interval.set(settings.interval)

    # -- triggers --------------------------------------------------------------------------

    def dirty(self, name: str) -> None:
        """See `FlushTrigger.dirty`."""
        self._schedule.dirty(name, self._clock.monotonic())
        self._wake.set()

    def urge(self, name: str, *, force: bool = False) -> None:
        """See `FlushTrigger.urge`."""
        self._schedule.urge(name, force=force)
        if force and self._preflight is not None:
            self._preflight.hurry()
        self._wake.set()

    def relieve_wal(self) -> None:
        """Flush the streams that pin the oldest WAL file, when the WAL is filling up."""
        wal = self._wal
        if wal.state.kind == "full" or wal.size_bytes > _PRESSURE * wal.max_bytes:
            for name in wal.pinned():
                self.urge(name)

    def reconfigure(self, settings: FlushSettings) -> None:
        """Take new settings over; flushes that run end by the old ones."""
        self._settings = settings
        self._schedule.interval = settings.interval
        self._schedule.concurrency = settings.concurrency
        self._store_backoff.reconfigure(settings.retry_min, settings.retry_max)
        if self._preflight is not None:
            self._preflight.reconfigure(settings.retry_min, settings.retry_max)
        self._metrics.flush_concurrency.set(settings.concurrency)
        self._metrics.flush_interval.set(settings.interval)
        self._intake.flush_bytes = settings.bytes
        for flush in self._flushes.values():
            flush.max_bytes = settings.bytes
        self._wake.set()

    @property
    def store_away(self) -> bool:
        """Whether the store did not answer when it was last asked."""
        return self._schedule.away

    @property
    def refused(self) -> Mapping[str, str]:
        """Streams that the store refuses, and why; the agent is not ready while there are some."""
        return self._troubles.refused

    @property
    def running(self) -> int:
        """Flushes in progress."""
        return len(self._schedule.running)

    @property
    def concurrency(self) -> int:
        """Their limit."""
        return self._settings.concurrency

    def causes(self, most: int) -> list[dict[str, Any]]:
        """What keeps streams from being flushed; see `Troubles.causes`."""
        return self._troubles.causes(most)

    # -- lifecycle -------------------------------------------------------------------------

    def start(self) -> None:
        """Start flushing (needs a running loop)."""
        self._runner = asyncio.create_task(self._run(), name="flusher")

    async def stop(self) -> None:
        """End at once: a flush in progress is cut off, its data stays in the WAL."""
        tasks = [task for task in (self._runner, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._runner = None
        self._alarm.set(None)

    async def _run(self) -> None:
        if self._preflight is not None:
            await self._preflight.run()
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            while (name := self._schedule.start(now)) is not None:
                task = asyncio.create_task(self._flush(name), name=f"flush {name}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._metrics.flushes_in_progress.set(len(self._schedule.running))
            self._alarm.set(self._schedule.next_wake())
            await self._wake.wait()

    # -- one flush -------------------------------------------------------------------------

    async def _flush(self, name: str) -> None:
        flush = self._flushes.get(name)
        if flush is None:
            flush = StreamFlush(
                name, wal=self._wal, attacher=self._attacher, max_bytes=self._settings.bytes
            )
            self._flushes[name] = flush
        began, started = self._clock.time(), perf_counter()
        try:
            done = await flush.run()
        except (ConflictError, StaleVersion, StoreConflict, StoreNotFound) as error:
            # Not our state any more. Opening again finds out whose it is, and diverts if need be.
            self._failed(name, "conflict", error)
        except StoreRetry as error:
            self._failed(name, "retry", error)
        except (StoreError, HyperfileError) as error:
            self._failed(name, "refused", error)
        except WalCorrupt as error:
            self._metrics.wal_corruptions.inc()
            self._failed(name, "corrupt", error)
        except WalError as error:
            self._failed(name, "retry", error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self._failed(name, "retry", error)
            _log.exception("flush failed by a defect of the agent", stream=name)
            self._on_defect(error)
        else:
            seconds = perf_counter() - started
            self._metrics.flush_duration.observe(seconds)
            self._succeeded(name, done, began, seconds)
        self._account_cache(flush)
        self._wake.set()

    def _succeeded(self, name: str, done: Flushed, began: float, seconds: float) -> None:
        now = self._clock.time()
        state = self._intake.states[name]
        state.error = ""
        self._troubles.succeeded(name, done.key)
        state.key, state.diverted = done.key, done.diverted
        state.checkpoint, state.size = done.checkpoint, done.size
        if done.nbytes:
            state.flushes += 1
            state.last_flush = now
            self._metrics.flush_bytes.inc(done.nbytes)
            self.recent.add(FlushDone(now, name, done.nbytes, seconds, done.key, done.checkpoint))
            self._metrics.flush_last_success.set(now)
        self._metrics.flushes.labels("ok").inc()
        self._backoffs.pop(name, None)
        self._store_backoff.succeeded()
        self._intake.stored(name, done.position, since=began)
        urgent = bool(state.waiters) or state.unflushed >= self._settings.bytes
        waits = not done.nbytes and state.unflushed > 0
        self._schedule.finished(
            name, self._clock.monotonic(), dirty=state.unflushed > 0, urgent=urgent and not waits
        )
        if urgent and waits:
            self._urge_when_durable(name)
        self.relieve_wal()

    def _urge_when_durable(self, name: str) -> None:
        """What the stream has is not durable yet: until it is, a flush finds nothing to do."""
        if name not in self._until_durable:
            self._until_durable.add(name)
            self._intake.notify_durable(self._intake.barrier(), lambda: self._is_durable(name))

    def _is_durable(self, name: str) -> None:
        self._until_durable.discard(name)
        self.urge(name)

    def _failed(self, name: str, result: str, error: BaseException) -> None:
        settings = self._settings
        self._metrics.flushes.labels(result).inc()
        state: StreamState = self._intake.states[name]
        state.error = f"{type(error).__name__}: {error}"
        self._troubles.failed(name, result, error)
        backoff = self._backoffs.setdefault(
            name, Backoff(settings.retry_min, settings.retry_max, self._rng)
        )
        now = self._clock.monotonic()
        delay = backoff.failed(slowly=result in ("refused", "corrupt"))
        gate = now + self._store_backoff.failed() if result == "retry" else None
        self._schedule.failed(name, now + delay, gate=gate)

    def _account_cache(self, flush: StreamFlush) -> None:
        """Keep what is held for next flushes within its bound, dropping the longest unused."""
        self._cached_total += flush.cached_bytes - self._cached.pop(flush.name, 0)
        self._cached[flush.name] = flush.cached_bytes
        while self._cached_total > self._settings.cache_bytes and len(self._cached) > 1:
            name, nbytes = self._cached.popitem(last=False)
            self._cached_total -= nbytes
            if name not in self._schedule.running:
                self._flushes[name].drop_cache()
