"""How a client behaves, and a name for a producer."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from hf_agent.clock import Clock, SystemClock, system_random, ulid

__all__ = ["ClientOptions", "fresh_producer"]


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """Bounds of one client."""

    max_unacknowledged_bytes: int = 16 << 20
    """Payload bytes that may be under way; `append` waits beyond that."""
    max_unacknowledged_records: int = 65_536
    """Appends that may be under way; `append` waits beyond that."""
    connect_timeout: float = 5.0
    """Seconds for one attempt to connect and be greeted."""
    reconnect_timeout: float = 60.0
    """Seconds without an agent before the client gives up; `math.inf`: never."""
    backoff_min: float = 0.02
    """Seconds before the second attempt to connect; doubled each time, with jitter."""
    backoff_max: float = 2.0
    """Largest pause between two attempts to connect, in seconds."""
    on_ack: Callable[[int, dict[str, int]], None] | None = None
    """Called with the highest acknowledged id and the stream positions newly reached.

    It may be called on any thread that uses the client, and must not call the client.
    """
    clock: Clock = field(default_factory=SystemClock)
    rng: random.Random = field(default_factory=system_random)


def fresh_producer(clock: Clock | None = None, rng: random.Random | None = None) -> str:
    """A producer name that nobody has used: what is sent under it is stored exactly once."""
    name = ulid(clock or SystemClock(), rng or system_random())
    return f"{name}.{os.getpid()}"
