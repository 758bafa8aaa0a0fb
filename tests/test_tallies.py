"""The tallies of the hot paths say at a scrape what the client library's own metrics would."""

from __future__ import annotations

import random

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from hf_agent.tallies import DurationTally, TrafficTallies, quantile

BOUNDS = (0.0001, 0.005, 0.25, 1, 60)


def without_created(text: bytes) -> list[bytes]:
    return [line for line in text.splitlines() if b"_created" not in line]


def test_a_duration_tally_reads_like_a_histogram() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = DurationTally("d_seconds", "Text.", BOUNDS, ours)
    histogram = Histogram("d_seconds", "Text.", buckets=BOUNDS, registry=theirs)
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))
    for _ in range(500):
        seconds = rng.choice((*BOUNDS, rng.expovariate(10), rng.uniform(0, 100)))
        tally.observe(seconds)
        histogram.observe(seconds)
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))


def test_traffic_reads_like_counters_with_a_label() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tallies = TrafficTallies("p_", ("append", "lines"), ours)
    texts = {
        "received_records": "Records read.",
        "received_bytes": "Payload bytes read.",
        "acked_records": "Records made durable.",
    }
    counters = {
        name: Counter(f"p_{name}", text, ("protocol",), registry=theirs)
        for name, text in texts.items()
    }
    for counter in counters.values():
        for protocol in ("append", "lines"):
            counter.labels(protocol)
    tallies["append"].received_records += 3
    tallies["append"].received_bytes += 300
    tallies["lines"].acked_records += 1
    counters["received_records"].labels("append").inc(3)
    counters["received_bytes"].labels("append").inc(300)
    counters["acked_records"].labels("lines").inc()
    assert without_created(generate_latest(ours)) == without_created(generate_latest(theirs))


def test_a_quantile_lies_in_its_bucket_as_prometheus_estimates_it() -> None:
    assert quantile((1.0, 2.0), (0, 0, 0), 0.5) is None
    assert quantile((1.0, 2.0), (10, 0, 0), 0.5) == 0.5
    assert quantile((1.0, 2.0), (10, 10, 0), 0.75) == 1.5
    assert quantile((1.0, 2.0), (10, 0, 10), 0.5) == 1.0
    # Above the highest bound nothing more is known.
    assert quantile((1.0, 2.0), (0, 0, 10), 0.5) == 2.0
