"""Every metric of the agent, in one place, on a registry of its own.

Names follow the Prometheus rules: prefix `hf_agent_`, base units, counters end in `_total` (added
by the client library); the process itself is described by the usual `process_` metrics. Series
whose labels are known beforehand are exported as 0. Nothing here carries a stream's name:
per-stream figures are on `/api/streams`.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from hf_agent import __version__, native
from hf_agent.tallies import CountTally, DurationTally, TrafficTallies

__all__ = ["PROTOCOLS", "WAITS", "Metrics"]

PROTOCOLS = ("append", "lines", "forward", "syslog")
WAITS = ("room", "memory", "output", "requests", "epoch", "rate", "turn")
"""What a connection may wait for before it goes on."""

_LATENCY = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
_REJECT_REASONS = (
    *("too_large", "bad_stream", "too_many_streams", "wal_full", "wal_failed"),
    *("malformed", "incomplete", "no_buffer_space"),
    *("unauthorized", "unsupported", "stream_not_allowed"),
    *("fenced", "position_mismatch", "not_allowed"),
)
_REFUSE_REASONS = (
    *("not_allowed", "too_many_connections", "too_many_connections_per_uid"),
    "shutting_down",
)
_THROTTLE_REASONS = ("connection_rate", "stream_rate")
_JOINS = ("cri", "multiline")
_JOIN_ENDS = ("complete", "lines", "bytes", "time", "memory", "end")
_FLUSH_FAILURES = ("retry", "conflict", "refused", "corrupt")
_PREFLIGHT_RESULTS = ("ok", "retry", "refused")


class Metrics:
    """All metrics of one agent; make one for each process (or for each test)."""

    def __init__(self) -> None:
        # A second series for each counter, of a time that process_start_time would give as well.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"hf_agent_{name}", text, labels, registry=self.registry)

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"hf_agent_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(
                f"hf_agent_{name}", text, labels, registry=self.registry, buckets=_LATENCY
            )

        def duration(name: str, text: str) -> DurationTally:
            return DurationTally(f"hf_agent_{name}", text, _LATENCY, self.registry)

        # When it started, memory, processor time, open files: read from /proc at each scrape.
        ProcessCollector(registry=self.registry)
        self.build_info = Info(
            "hf_agent_build",
            "Version of the agent, and whether its loops in C are there (`native`: true or false).",
            registry=self.registry,
        )
        self.build_info.info(
            {"version": __version__, "native": "true" if native.available() else "false"}
        )
        self.traffic = TrafficTallies("hf_agent_", PROTOCOLS, self.registry)
        """received_records, received_bytes and acked_records, by protocol."""
        self.rejected_records = counter(
            "rejected_records", "Records refused.", ("protocol", "reason")
        )
        self.deduplicated_records = counter(
            "deduplicated_records", "Records sent again and not stored twice."
        )
        self.forward_fallback_records = counter(
            "forward_fallback_records", "Events whose tag makes no stream's name."
        )
        self.syslog_flawed_records = counter(
            "syslog_flawed_records",
            "Messages kept as a whole that do not parse, came in parts, or make no stream's name.",
            ("flaw",),
        )
        self.joined_records = CountTally(
            "hf_agent_joined_records",
            "Records of protocol lines that a stage may have joined, by what ended them.",
            ("stage", "ended_by"),
            [(stage, end) for stage in _JOINS for end in _JOIN_ENDS],
            self.registry,
        )
        self.malformed_lines = CountTally(
            "hf_agent_malformed_lines",
            "Lines stored as they came because they are not what they should be.",
            ("format",),
            [("cri",)],
            self.registry,
        )
        self.append_duration = duration(
            "append_duration_seconds", "From an append's arrival until it is durable."
        )
        self.open_connections = gauge("open_connections", "Open connections.", ("protocol",))
        self.max_connections = gauge(
            "max_connections", "Connections allowed, over all sockets.", ("protocol",)
        )
        self.refused_connections = counter(
            "refused_connections", "Connections that were not let in.", ("protocol", "reason")
        )
        self.timed_out_connections = counter(
            "timed_out_connections", "Connections ended for their silence.", ("protocol",)
        )
        self.waiting_connections = gauge(
            "waiting_connections",
            "Connections that are not read from now, by what they wait for.",
            ("protocol", "reason"),
        )
        for protocol in PROTOCOLS:
            for reason in WAITS:
                self.waiting_connections.labels(protocol, reason)
        self.throttled_connections = gauge(
            "throttled_connections",
            "Connections that are not read from because a rate is used up.",
            ("protocol", "reason"),
        )
        self.throttled_seconds = counter(
            "throttled_seconds",
            "Time for which they were not, summed over connections.",
            ("protocol", "reason"),
        )
        self.receive_buffer_bytes = gauge(
            "receive_buffer_bytes", "Bytes held for records that have not arrived whole."
        )
        self.kept_receive_buffer_bytes = gauge(
            "kept_receive_buffer_bytes",
            "Bytes of large receive buffers that are kept for further reads, or still in use.",
        )
        self.receive_buffer_max_bytes = gauge(
            "receive_buffer_max_bytes", "Limit of receive_buffer_bytes."
        )
        self.wal_size = gauge("wal_size_bytes", "Bytes that the WAL's files occupy.")
        self.wal_max_size = gauge("wal_max_size_bytes", "Limit of wal_size_bytes.")
        self.wal_disk_free = gauge(
            "wal_disk_free_bytes", "Bytes that the file system of the WAL has left for the agent."
        )
        self.wal_disk_size = gauge("wal_disk_size_bytes", "Size of the file system of the WAL.")
        self.wal_pending = gauge("wal_pending_bytes", "Bytes taken and not yet durable.")
        self.wal_max_pending = gauge("wal_max_pending_bytes", "Limit of wal_pending_bytes.")
        self.wal_sync_duration = duration(
            "wal_sync_duration_seconds", "Write and fdatasync of one batch."
        )
        self.wal_oldest_unflushed = gauge(
            "wal_oldest_unflushed_timestamp_seconds",
            "When the oldest byte that the store does not have was taken; 0 when there is none.",
        )
        self.wal_unflushed = gauge("wal_unflushed_bytes", "Bytes that the store does not have.")
        self.wal_corruptions = counter("wal_corruptions", "Damaged places found in the WAL.")
        self.flushes = counter("flushes", "Flushes by result.", ("result",))
        self.flush_duration = histogram("flush_duration_seconds", "One flush of one stream.")
        self.flush_bytes = counter("flush_bytes", "Stream bytes committed to the store.")
        self.flush_last_success = gauge(
            "flush_last_success_timestamp_seconds", "When a flush last succeeded."
        )
        self.flushes_in_progress = gauge("flushes_in_progress", "Flushes running now.")
        self.flush_interval = gauge(
            "flush_interval_seconds", "Age of a stream's oldest byte at which it is flushed."
        )
        self.flush_concurrency = gauge("flush_concurrency", "Limit of flushes_in_progress.")
        self.store_requests = counter(
            "store_requests", "Requests to the store by result.", ("operation", "code")
        )
        self.store_request_duration = histogram(
            "store_request_duration_seconds", "One request to the store.", ("operation",)
        )
        self.store_conflicts = counter("store_conflicts", "True conflicts with another writer.")
        self.store_preflights = counter(
            "store_preflights", "Preflights of the store by result.", ("result",)
        )
        self.store_preflight_passed = gauge(
            "store_preflight_passed", "1 once the store has passed; nothing is flushed before."
        )
        self.failing_streams = gauge(
            "failing_streams", "Streams whose last flush failed, by result.", ("result",)
        )
        self.asyncio_tasks = gauge("asyncio_tasks", "Tasks on the event loop.")
        self.streams = gauge("streams", "Streams known to the WAL.")
        self.diverted_streams = gauge(
            "diverted_streams", "Streams that a conflict sent to a sibling of their container."
        )
        self.max_streams = gauge("max_streams", "Limit of streams.")
        self.ready = gauge("ready", "1 while /readyz says 200.")
        self.ingestion_paused = gauge(
            "ingestion_paused", "1 while no append is taken (WAL full or failed)."
        )
        for protocol in PROTOCOLS:
            self.open_connections.labels(protocol)
            self.max_connections.labels(protocol)
            self.timed_out_connections.labels(protocol)
            for reason in _REJECT_REASONS:
                self.rejected_records.labels(protocol, reason)
            for reason in _REFUSE_REASONS:
                self.refused_connections.labels(protocol, reason)
            for reason in _THROTTLE_REASONS:
                self.throttled_connections.labels(protocol, reason)
                self.throttled_seconds.labels(protocol, reason)
        for flaw in ("unparsed", "partial", "fallback"):
            self.syslog_flawed_records.labels(flaw)
        for result in ("ok", *_FLUSH_FAILURES):
            self.flushes.labels(result)
        for result in _FLUSH_FAILURES:
            self.failing_streams.labels(result)
        for result in _PREFLIGHT_RESULTS:
            self.store_preflights.labels(result)
        for operation in ("get", "head", "create", "replace", "delete", "list"):
            self.store_requests.labels(operation, "ok")
            self.store_request_duration.labels(operation)
