"""Callbacks that wait for a number to be reached: a durable batch, or a stored position."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable

__all__ = ["BatchWaiters", "PositionWaiters"]


class BatchWaiters:
    """Who waits for which batch of the WAL. Batches are asked for in ascending order, mostly."""

    def __init__(self) -> None:
        self._queue: deque[tuple[int, list[Callable[[], None]]]] = deque()

    def add(self, batch: int, callback: Callable[[], None]) -> None:
        """Have `callback` called when `batch` is reached."""
        queue = self._queue
        if queue and queue[-1][0] == batch:
            queue[-1][1].append(callback)
            return
        if not queue or queue[-1][0] < batch:
            queue.append((batch, [callback]))
            return
        # A batch that is older than the newest one waited for: rare (a barrier taken earlier).
        for place, (waited, callbacks) in enumerate(queue):
            if waited == batch:
                callbacks.append(callback)
                return
            if waited > batch:
                queue.insert(place, (batch, [callback]))
                return

    def reached(self, batch: int) -> list[Callable[[], None]]:
        """Take out the callbacks of every batch up to `batch`, in order."""
        ready: list[Callable[[], None]] = []
        queue = self._queue
        while queue and queue[0][0] <= batch:
            ready.extend(queue.popleft()[1])
        return ready

    def __len__(self) -> int:
        return sum(len(callbacks) for _, callbacks in self._queue)


class PositionWaiters:
    """Who waits for which position of one stream to be committed in the store."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def add(self, position: int, callback: Callable[[], None]) -> None:
        """Have `callback` called when `position` is reached."""
        heapq.heappush(self._heap, (position, next(self._order), callback))

    def reached(self, position: int) -> list[Callable[[], None]]:
        """Take out the callbacks of every position up to `position`, in order."""
        ready: list[Callable[[], None]] = []
        while self._heap and self._heap[0][0] <= position:
            ready.append(heapq.heappop(self._heap)[2])
        return ready

    def __bool__(self) -> bool:
        return bool(self._heap)

    def __len__(self) -> int:
        return len(self._heap)
