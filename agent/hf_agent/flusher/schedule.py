"""Which stream is flushed next, and when to look again. Takes the time, starts nothing.

A stream is in at most one of four places: *dirty* (waits until it is old enough), *urgent*
(next in line), *held* (failed, waits out its delay) or *running*. While the store is away only
one flush runs at a time, and none before `gate`: it is the probe that finds the store back.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict

__all__ = ["Schedule"]


class Schedule:
    """The flush order of all streams. Times are seconds of a monotonic clock."""

    def __init__(self, *, interval: float, concurrency: int) -> None:
        self.interval = interval
        self.concurrency = concurrency
        self.away = False
        """Whether the last thing heard of the store was that it does not answer."""
        self.gate = 0.0
        """No flush starts before, while the store is away."""
        self.running: set[str] = set()
        self._dirty: OrderedDict[str, float] = OrderedDict()
        self._urgent: OrderedDict[str, bool] = OrderedDict()
        self._held: dict[str, float] = {}
        self._held_order: list[tuple[float, str]] = []
        self._again: dict[str, bool] = {}

    def dirty(self, name: str, now: float) -> None:
        """The stream has bytes to flush since `now`."""
        if name in self.running or name in self._urgent or name in self._held:
            return
        self._dirty.setdefault(name, now)

    def urge(self, name: str, *, force: bool = False) -> None:
        """Flush the stream as soon as there is a place; `force` overrules delay and gate."""
        if name in self.running:
            self._again[name] = self._again.get(name, False) or force
            return
        if name in self._held and not force:
            return
        self._held.pop(name, None)
        self._dirty.pop(name, None)
        if force:
            self._urgent[name] = True
            self._urgent.move_to_end(name, last=False)
        else:
            self._urgent.setdefault(name, False)

    def start(self, now: float) -> str | None:
        """Take out the stream whose flush starts now; None when none may."""
        self._ripen(now)
        if not self._urgent or len(self.running) >= self.concurrency:
            return None
        name, forced = next(iter(self._urgent.items()))
        if self.away and not forced and (self.running or now < self.gate):
            return None
        del self._urgent[name]
        self.running.add(name)
        return name

    def finished(self, name: str, now: float, *, dirty: bool, urgent: bool) -> None:
        """The flush came through. What is left goes to the end of its line."""
        self.running.discard(name)
        self.away = False
        again = self._again.pop(name, None)
        if not dirty:
            return
        if again is not None or urgent:
            self.urge(name, force=bool(again))
        else:
            self.dirty(name, now)

    def failed(self, name: str, until: float, *, gate: float | None) -> None:
        """The flush failed; the stream is tried again at `until`.

        With `gate`, the store did not answer: nothing else is tried before that time either.
        """
        self.running.discard(name)
        forced = self._again.pop(name, False)
        if gate is not None:
            self.away = True
            self.gate = gate
        if forced:
            self.urge(name, force=True)
            return
        self._held[name] = until
        heapq.heappush(self._held_order, (until, name))

    def next_wake(self) -> float | None:
        """When something ripens by itself; None when only an event can change anything."""
        times = []
        if self._dirty:
            times.append(next(iter(self._dirty.values())) + self.interval)
        if self._held_order:
            times.append(self._held_order[0][0])
        if self._urgent and self.away and not self.running:
            times.append(self.gate)
        return min(times) if times else None

    def _ripen(self, now: float) -> None:
        while self._dirty:
            name, since = next(iter(self._dirty.items()))
            if since + self.interval > now:
                break
            del self._dirty[name]
            self._urgent.setdefault(name, False)
        while self._held_order and self._held_order[0][0] <= now:
            until, name = heapq.heappop(self._held_order)
            if self._held.get(name) == until:
                del self._held[name]
                self._urgent.setdefault(name, False)
