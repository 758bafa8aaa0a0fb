"""Nothing is flushed before the store has passed the preflight, once in the process's life.

A store that is away is asked again with growing pauses; one that refuses, or lets pass what it
must refuse, slowly. Both for ever: a bucket that is made later, a permission given later, need no
restart. Meanwhile appends go on into the WAL.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Literal

import structlog

from hf_agent.clock import Clock
from hf_agent.flusher.alarm import Alarm
from hf_agent.flusher.backoff import Backoff
from hf_agent.flusher.troubles import message_of
from hf_agent.metrics import Metrics
from hf_agent.store.base import StoreError, StoreRetry

__all__ = ["Preflight"]

_log = structlog.get_logger(__name__)


class Preflight:
    """Tries `attempt` until it succeeds. `run`, once; the rest may be asked at any time."""

    def __init__(
        self,
        attempt: Callable[[], Awaitable[None]],
        *,
        retry_min: float,
        retry_max: float,
        clock: Clock,
        rng: random.Random,
        metrics: Metrics,
        on_defect: Callable[[BaseException], None],
    ) -> None:
        """`attempt` raises the store's errors. `on_defect` is told of any other one."""
        self._attempt = attempt
        self._clock = clock
        self._metrics = metrics
        self._on_defect = on_defect
        self._backoff = Backoff(retry_min, retry_max, rng)
        self._again = asyncio.Event()
        self._alarm = Alarm(clock, self._again.set)
        self._logged: tuple[str, ...] = ()
        self.state: Literal["pending", "away", "refused", "passed"] = "pending"
        """`pending`: no answer yet · `away`: the store did not answer · `refused` · `passed`."""
        self.reason = ""
        """Why it has not passed, in the words of the last error; empty before, and after."""
        self.passed = asyncio.Event()

    async def run(self) -> None:
        """Return when the store has passed."""
        while True:
            self._again.clear()
            try:
                await self._attempt()
            except StoreError as error:
                delay = self._failed(error)
            except Exception as error:
                _log.exception("preflight failed by a defect of the agent")
                self._on_defect(error)
                delay = self._backoff.failed()
            else:
                self._succeeded()
                return
            self._alarm.set(self._clock.monotonic() + delay)
            await self._again.wait()
            self._alarm.set(None)

    def reconfigure(self, retry_min: float, retry_max: float) -> None:
        """Take new delays over, in seconds, from the next failure on."""
        self._backoff.reconfigure(retry_min, retry_max)

    def hurry(self) -> None:
        """Do not wait for the next try."""
        self._again.set()

    def _failed(self, error: StoreError) -> float:
        """Returns the delay before the next try, in seconds."""
        away = isinstance(error, StoreRetry)
        self.state = "away" if away else "refused"
        self.reason = str(error)
        self._metrics.store_preflights.labels("retry" if away else "refused").inc()
        # Where a store that is away breaks off differs from try to try; what is refused does not.
        told = (error.code,) if away and error.code else (error.code, message_of(error))
        if (self.state, *told) != self._logged:
            self._logged = (self.state, *told)
            if away:
                _log.warning(
                    "the store does not answer; nothing is flushed yet, the data stays in the WAL",
                    reason=self.reason,
                )
            else:
                _log.error(
                    "the store failed the preflight; nothing is flushed, the data stays in the "
                    "WAL, and the store is tried again",
                    reason=self.reason,
                )
        return self._backoff.failed(slowly=not away)

    def _succeeded(self) -> None:
        self.state, self.reason = "passed", ""
        self._metrics.store_preflights.labels("ok").inc()
        self._metrics.store_preflight_passed.set(1)
        _log.info("the store passed the preflight", failures=self._backoff.failures)
        self.passed.set()
