"""How many bytes a second a socket takes: of one connection, and of one stream.

Over a limit nothing is refused or dropped: whoever went beyond it is not read from until the
bucket has made up for it. Several connections that append to one stream share its bucket. They go
on in the order in which they spent, since each waits for what was owed at that time.
"""

from __future__ import annotations

from typing import Final, Protocol

from hf_agent.clock import Clock
from hf_agent.ingest.token_bucket import TokenBucket

__all__ = ["MAX_STREAM_BUCKETS", "RateConfig", "RateLimits"]

MAX_STREAM_BUCKETS: Final = 4096
"""Streams of a socket whose bucket is kept; beyond it the one that was longest unused is given up,
and begins full when that stream comes again."""

_LEAST_BURST: Final = 64 << 10


class RateConfig(Protocol):
    """The part of a `[[listen]]` table that limits rates."""

    @property
    def connection_bytes_per_second(self) -> int:
        """0: no limit."""
        ...

    @property
    def connection_burst_bytes(self) -> int:
        """0: what the rate gives in a second, and 64 KiB at least."""
        ...

    @property
    def stream_bytes_per_second(self) -> int: ...
    @property
    def stream_burst_bytes(self) -> int: ...


class RateLimits:
    """The limits of one socket, and what its streams have spent."""

    def __init__(self, config: RateConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._streams: dict[str, TokenBucket] = {}

    @property
    def limits_streams(self) -> bool:
        """Whether appends must be told to `spend`."""
        return self._config.stream_bytes_per_second > 0

    @property
    def stream_buckets(self) -> int:
        """Streams whose bucket is kept."""
        return len(self._streams)

    def connection_bucket(self) -> TokenBucket | None:
        """A bucket for a connection that begins; None without a limit."""
        config = self._config
        return self._bucket(config.connection_bytes_per_second, config.connection_burst_bytes)

    def spend(self, stream: str, nbytes: int) -> float:
        """`nbytes` were appended to `stream`: seconds to take nothing more for; 0.0: go on."""
        now = self._clock.monotonic()
        # Taken out and put in again: the longest unused one is always the first.
        bucket = self._streams.pop(stream, None)
        if bucket is None:
            if len(self._streams) >= MAX_STREAM_BUCKETS:
                del self._streams[next(iter(self._streams))]
            config = self._config
            bucket = self._bucket(config.stream_bytes_per_second, config.stream_burst_bytes)
            assert bucket is not None, "asked only with a limit"
        self._streams[stream] = bucket
        bucket.spend(nbytes, now)
        return bucket.wait(0, now)

    def _bucket(self, rate: int, burst: int) -> TokenBucket | None:
        if not rate:
            return None
        return TokenBucket(rate, burst or max(rate, _LEAST_BURST), self._clock.monotonic())
