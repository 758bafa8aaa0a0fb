"""When to try to connect again, and when to give up."""

from __future__ import annotations

from hf_agent.client.options import ClientOptions

__all__ = ["Reconnection"]

_STABLE = 5.0
"""A connection that lived for so many seconds begins a new count."""


class Reconnection:
    """Jittered exponential pauses since the last time that something got on."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._attempts = 0
        self._since: float | None = None
        self._connected_at = 0.0
        self.next_attempt = 0.0
        """Monotonic seconds; not before."""

    def connected(self) -> None:
        """The agent has greeted."""
        self._connected_at = self._options.clock.monotonic()

    def lost(self, *, progress: bool) -> None:
        """A connection ended or an attempt failed; `progress`: it had answered something."""
        now = self._options.clock.monotonic()
        if progress or (self._connected_at and now - self._connected_at >= _STABLE):
            self._attempts = 0
            self._since = None
        self._connected_at = 0.0
        if self._since is None:
            self._since = now
        options = self._options
        pause = min(options.backoff_max, options.backoff_min * 2.0 ** min(self._attempts, 30))
        self._attempts += 1
        self.next_attempt = now + pause * options.rng.uniform(0.5, 1.0)

    @property
    def is_hopeless(self) -> bool:
        """Whether there has been no agent for too long."""
        since = self._since
        timeout = self._options.reconnect_timeout
        return since is not None and self._options.clock.monotonic() - since >= timeout
