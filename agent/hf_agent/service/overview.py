"""What the status page shows, in one bounded answer that is made at most once a second."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final

from hf_agent.clock import Clock
from hf_agent.ingest.peers import Peer, command_of
from hf_agent.metrics import PROTOCOLS, Metrics
from hf_agent.recent import RecentEvents
from hf_agent.service.core import Core
from hf_agent.service.history import History, Sums

__all__ = ["MOST_CAUSES", "MOST_PEERS", "Overview", "limited_peers"]

MOST_PEERS: Final = 50
"""Rows of clients: those with the most connections."""
MOST_CAUSES: Final = 20
"""Rows of what keeps streams from being flushed: those that concern the most streams."""
_FRESH: Final = 1.0
"""Seconds for which an answer is given again, however many ask."""


class Overview:
    """The history of this agent, and the answer."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: Metrics,
        events: RecentEvents,
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self.core: Core | None = None
        """There is none before the WAL is recovered."""
        self._clock = clock
        self._metrics = metrics
        self._events = events
        self._status = status
        self._history = History(metrics.append_duration.bounds)
        self._made = float("-inf")
        self._answer: dict[str, Any] = {}

    def tick(self) -> None:
        """Go on with the history; call it about once a second."""
        now, core = self._clock.monotonic(), self.core
        if core is None or not self._history.due(now):
            return
        traffic = [self._metrics.traffic[protocol] for protocol in PROTOCOLS]
        sums = Sums(
            sum(each.received_records for each in traffic),
            sum(each.received_bytes for each in traffic),
            core.flusher.recent.bytes,
            core.wal.size_bytes,
            self._metrics.append_duration.counts(),
        )
        self._history.take(now, sums)

    def describe(self) -> dict[str, Any]:
        """The answer, as plain JSON types; not older than a second."""
        now = self._clock.monotonic()
        if now - self._made >= _FRESH:
            self._answer, self._made = self._make(), now
        return self._answer

    def _make(self) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "timestamp": self._clock.time(),
            "status": self._status(),
            "history": self._history.describe(),
            "protocols": self._protocols(),
            "events": self._events.newest_first(),
            "flushes": {},
            "causes": [],
            "peers": limited_peers(()),
        }
        if self.core is not None:
            flusher = self.core.flusher
            answer["flushes"] = {
                "running": flusher.running,
                "concurrency": flusher.concurrency,
                "results": _by_label(self._metrics.flushes, "result"),
                "last": flusher.recent.newest_first(),
            }
            answer["causes"] = flusher.causes(MOST_CAUSES)
            answer["peers"] = limited_peers(self.core.peers())
        return answer

    def _protocols(self) -> list[dict[str, Any]]:
        metrics = self._metrics
        connections = _by_label(metrics.open_connections, "protocol")
        limits = _by_label(metrics.max_connections, "protocol")
        rejected = _by_label(metrics.rejected_records, "protocol")
        rows = []
        for protocol in PROTOCOLS:
            traffic = metrics.traffic[protocol]
            rows.append(
                {
                    "protocol": protocol,
                    "connections": connections.get(protocol, 0),
                    "max_connections": limits.get(protocol, 0),
                    "received_records": traffic.received_records,
                    "received_bytes": traffic.received_bytes,
                    "acked_records": traffic.acked_records,
                    "rejected_records": rejected.get(protocol, 0),
                }
            )
        return rows


def _by_label(metric: Any, label: str) -> dict[str, int]:
    """The values of a counter or gauge, summed by one of its labels."""
    sums: Counter[str] = Counter()
    for family in metric.collect():
        for sample in family.samples:
            sums[sample.labels[label]] += int(sample.value)
    return dict(sums)


def limited_peers(peers: Iterable[Peer]) -> dict[str, Any]:
    """Those with the most connections, and how many there are in all."""
    counted = Counter(peers)
    rows = [
        {**peer._asdict(), "command": command_of(peer.pid), "connections": count}
        for peer, count in counted.most_common(MOST_PEERS)
    ]
    return {"connections": counted.total(), "peers": len(counted), "rows": rows}
