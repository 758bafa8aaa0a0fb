"""What the agent keeps in memory of one stream: a few numbers, never a payload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hf_agent.streams.waiters import PositionWaiters

__all__ = ["StreamState"]


@dataclass(slots=True, eq=False)
class StreamState:
    """One stream. Positions are bytes since the stream first appeared in this WAL."""

    name: str
    position: int
    """End of what was taken, durable or not."""
    committed: int
    """Everything below it is in the store, as far as is known."""
    resolved: bool = False
    """Whether the store has been asked for `committed` in this process's life."""
    since: float = 0.0
    """Unix seconds when the oldest uncommitted byte was taken; 0 when there is none."""
    waiters: PositionWaiters = field(default_factory=PositionWaiters)
    key: str = ""
    """The container's key once it is known."""
    diverted: bool = False
    """Whether a conflict with another writer sent the stream to a sibling of its container."""
    conflicts: int = 0
    """True conflicts met in this process's life."""
    last_conflict: float = 0.0
    """Unix seconds of the last one; 0 before the first."""
    checkpoint: int = 0
    size: int = 0
    """Bytes in the container after the last flush."""
    flushes: int = 0
    last_flush: float = 0.0
    """Unix seconds of the last commit; 0 before the first."""
    error: str = ""
    """Why the last flush failed; empty when it did not."""

    @property
    def unflushed(self) -> int:
        """Bytes that the store does not have yet, as far as is known."""
        return self.position - self.committed

    def met_conflict(self, key: str, now: float) -> None:
        """Another writer was there first; the stream goes on in the container at `key`."""
        self.key, self.diverted = key, True
        self.conflicts += 1
        self.last_conflict = now

    def describe(self) -> dict[str, Any]:
        """The row of `/api/streams`."""
        return {
            "stream": self.name,
            "position": self.position,
            "committed": self.committed,
            "unflushed_bytes": self.unflushed,
            "oldest_unflushed_timestamp": self.since,
            "key": self.key,
            "diverted": self.diverted,
            "conflicts": self.conflicts,
            "last_conflict_timestamp": self.last_conflict,
            "checkpoint": self.checkpoint,
            "container_bytes": self.size,
            "flushes": self.flushes,
            "last_flush_timestamp": self.last_flush,
            "error": self.error,
        }
