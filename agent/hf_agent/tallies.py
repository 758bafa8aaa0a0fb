"""Counters and histograms for paths where every microsecond shows: plain numbers.

They are read at a scrape, instead of being kept in the client library's own metrics, each of which
takes a lock for every change. One thread changes a tally (or several, one after the other); any
thread may read it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

__all__ = ["CountTally", "DurationTally", "Traffic", "TrafficTallies", "quantile"]


class Traffic:
    """What came in by one protocol."""

    __slots__ = ("acked_records", "received_bytes", "received_records")

    def __init__(self) -> None:
        self.received_records = 0
        self.received_bytes = 0
        self.acked_records = 0


class TrafficTallies(Collector):
    """The traffic of each protocol, as counters with label `protocol`."""

    def __init__(self, prefix: str, protocols: Sequence[str], registry: CollectorRegistry) -> None:
        self._prefix = prefix
        self._traffic = {protocol: Traffic() for protocol in protocols}
        registry.register(self)

    def __getitem__(self, protocol: str) -> Traffic:
        """The tallies of one protocol; made when it was not known beforehand."""
        return self._traffic.setdefault(protocol, Traffic())

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        for name, text in (
            ("received_records", "Records read."),
            ("received_bytes", "Payload bytes read."),
            ("acked_records", "Records made durable."),
        ):
            family = CounterMetricFamily(f"{self._prefix}{name}", text, labels=("protocol",))
            for protocol, traffic in list(self._traffic.items()):
                family.add_metric((protocol,), float(getattr(traffic, name)))
            yield family


class CountTally(Collector):
    """A counter with labels, of which all series are known beforehand."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        series: Iterable[tuple[str, ...]],
        registry: CollectorRegistry,
    ) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._counts = dict.fromkeys(series, 0)
        registry.register(self)

    def add(self, *labels: str) -> None:
        """Count one."""
        self._counts[labels] += 1

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._counts.items():
            family.add_metric(labels, float(count))
        yield family


class DurationTally(Collector):
    """A histogram of seconds."""

    def __init__(
        self, name: str, text: str, bounds: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name = name
        self._text = text
        self.bounds: Sequence[float] = [float(bound) for bound in bounds]
        """Upper ends of the buckets, in seconds, but for the last, which has none."""
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        """Take note of one duration."""
        self._counts[bisect_left(self.bounds, seconds)] += 1
        self._sum += seconds

    def counts(self) -> list[int]:
        """How many fell in each bucket; one more than there are bounds."""
        return list(self._counts)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), list(self._counts), strict=True):
            total += count
            edge = floatToGoString(bound)  # type: ignore[no-untyped-call]
            buckets.append((edge, float(total)))
        family = HistogramMetricFamily(self._name, self._text)
        family.add_metric((), buckets, self._sum)
        yield family


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which `share` of what was counted lies, as Prometheus estimates it.

    `counts` has one more than `bounds`. None when nothing was counted; the highest bound when it
    lies above that.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below = share * total, 0
    for index, count in enumerate(counts[:-1]):
        if count and below + count >= rank:
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * (rank - below) / count
        below += count
    return bounds[-1]
