"""What happened in a run, as one hash: two runs of a seed must not differ in a single event."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Protocol

__all__ = ["Trace"]


class _Write(Protocol):
    def __call__(self, line: str, /) -> None: ...


class Trace:
    """Events in their order. `counts` says how often each kind of event came."""

    def __init__(self, write: _Write | None = None) -> None:
        self.counts: Counter[str] = Counter()
        self.length = 0
        self._hash = hashlib.blake2b(digest_size=16)
        self._write = write

    def event(self, now: float, kind: str, *details: object) -> None:
        """Add an event; details must not depend on the process that simulates."""
        line = f"{now:.6f} {kind} {' '.join(map(str, details))}"
        self._hash.update(line.encode())
        self.length += 1
        self.counts[kind] += 1
        if self._write is not None:
            self._write(line)

    def count(self, kind: str) -> None:
        """Count something that is in the trace by another name."""
        self.counts[kind] += 1

    @property
    def digest(self) -> str:
        """32 hexadecimal digits."""
        return self._hash.hexdigest()
