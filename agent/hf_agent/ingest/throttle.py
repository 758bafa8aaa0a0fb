"""Keeps one connection from going on while a rate is used up, and tells how long that took."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from hf_agent.ingest.endpoint import Endpoint

__all__ = ["CONNECTION_RATE", "STREAM_RATE", "Throttle"]

_log = structlog.get_logger(__name__)

CONNECTION_RATE: Final = "connection_rate"
STREAM_RATE: Final = "stream_rate"

_LONGEST_NAP: Final = 1.0
"""Seconds: the metrics follow a long wait, and a connection that is gone is let go of."""


class Throttle:
    """Lives as long as its connection, on the event loop's thread."""

    __slots__ = ("_endpoint", "_on_over", "_protocol", "_reason", "_since", "_until")

    def __init__(self, endpoint: Endpoint, protocol: str, on_over: Callable[[], None]) -> None:
        """`on_over` is called when the connection may go on."""
        self._endpoint = endpoint
        self._protocol = protocol
        self._on_over = on_over
        self._reason = ""
        self._since = 0.0
        self._until = 0.0

    def begin(self, seconds: float, reason: str) -> None:
        """Stand still for `seconds` more, or for as long as is left if that is longer."""
        now = self._endpoint.clock.monotonic()
        self._until = max(self._until, now + seconds)
        if self._reason:
            return
        self._reason = reason
        self._since = now
        self._count(1)
        self._log(reason)
        self._nap(now)

    def stop(self) -> None:
        """The connection ends, or must go on: stand still no longer. Idempotent."""
        if self._reason:
            self._account(self._endpoint.clock.monotonic())
            self._count(-1)
            self._reason = ""
        self._until = 0.0

    def _nap(self, now: float) -> None:
        self._endpoint.wakeups.after(min(self._until - now, _LONGEST_NAP), self._wake)

    def _wake(self) -> None:
        if not self._reason:
            return
        now = self._endpoint.clock.monotonic()
        if now < self._until:
            self._account(now)
            self._nap(now)
        else:
            self.stop()
            self._on_over()

    def _account(self, now: float) -> None:
        metrics = self._endpoint.metrics
        metrics.throttled_seconds.labels(self._protocol, self._reason).inc(now - self._since)
        self._since = now

    def _count(self, change: int) -> None:
        metrics = self._endpoint.metrics
        metrics.throttled_connections.labels(self._protocol, self._reason).inc(change)

    def _log(self, reason: str) -> None:
        times = self._endpoint.log_limit.due(reason)
        if times:
            _log.info(
                "reading slows: a rate is used up",
                protocol=self._protocol,
                socket=str(self._endpoint.config.path),
                reason=reason,
                times=times,
            )
