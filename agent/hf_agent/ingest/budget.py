"""The bound on memory that all connections together hold for what has not arrived whole.

Every connection may have `SMALLEST` bytes. More than that comes out of the budget; when it is used
up, who needs more reads no further until others give back, first come first served. Two things
could make that last for ever:

- All that hold something wait for each other. Then the first of them may go beyond the limit until
  its message is whole. There is one such at a time, so all together hold at most `limit`, one
  message more, and `SMALLEST` for each connection.
- One that holds something, and could go on, receives nothing. While others wait, it is told to go
  after `PATIENCE`: the message that it began is lost to it. Those that stand still because the
  WAL takes nothing are left alone, and so are those that a rate keeps still; nobody waits for
  the latter to give back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from hf_agent.clock import Clock
from hf_agent.ingest.receive_buffer import SMALLEST
from hf_agent.metrics import Metrics

__all__ = ["PATIENCE", "BudgetShare", "ReceiveBudget"]

PATIENCE = 10.0
"""Seconds that a connection may stand still while others wait for its memory."""


class ReceiveBudget:
    """`limit` bytes over all connections, of which each holds a `BudgetShare`."""

    def __init__(self, limit: int, metrics: Metrics, clock: Clock) -> None:
        self.limit = limit
        self.held = 0
        self._clock = clock
        self._shares: set[BudgetShare] = set()
        self._waiters: deque[BudgetShare] = deque()
        self._beyond: BudgetShare | None = None
        self._watch: asyncio.Task[None] | None = None
        metrics.receive_buffer_max_bytes.set(limit)
        metrics.receive_buffer_bytes.set_function(lambda: self.held)

    @property
    def waiting(self) -> int:
        """Connections that wait for memory."""
        return len(self._waiters)

    def share(self, *, on_room: Callable[[], None], on_evicted: Callable[[], None]) -> BudgetShare:
        """A share for one connection, which must `close` it.

        `on_room` says that what was waited for is granted; `on_evicted` that the share must be
        closed now.
        """
        share = BudgetShare(self, on_room, on_evicted)
        self._shares.add(share)
        return share

    async def close(self) -> None:
        """End the watch; for when no connection is left."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
            self._watch = None

    # -- for shares --------------------------------------------------------------------------

    def resize(self, share: BudgetShare, nbytes: int) -> bool:
        """See `BudgetShare.resize`."""
        grown = nbytes - share.held
        # Nobody overtakes those who wait.
        is_used_up = bool(self._waiters) or self.held + grown > self.limit
        if is_used_up and grown > 0 and nbytes > SMALLEST and share is not self._beyond:
            return False
        self._set(share, nbytes)
        if grown < 0:
            self._grant()
        return True

    def wait(self, share: BudgetShare, nbytes: int) -> None:
        """See `BudgetShare.wait`."""
        share.wanted = nbytes
        if not self._waiters:
            now = self._clock.monotonic()
            for other in self._shares:
                other.since = now
        self._waiters.append(share)
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._watch_over())
        self._grant()

    def touch(self, share: BudgetShare) -> None:
        """See `BudgetShare.touch`."""
        if self._waiters:
            share.since = self._clock.monotonic()

    def pace_changed(self, share: BudgetShare) -> None:
        """See `BudgetShare.pace`."""
        self.touch(share)
        if share.paced:
            self._grant()

    def remove(self, share: BudgetShare) -> None:
        """See `BudgetShare.close`."""
        self._shares.discard(share)
        if share.wanted:
            self._waiters.remove(share)
            share.wanted = 0
        self._set(share, 0)
        self._grant()

    # -- granting ----------------------------------------------------------------------------

    def _set(self, share: BudgetShare, nbytes: int) -> None:
        self.held += nbytes - share.held
        share.held = nbytes
        if share is self._beyond and nbytes <= SMALLEST:
            self._beyond = None

    def _grant(self) -> None:
        while self._waiters:
            share = self._waiters[0]
            if self.held - share.held + share.wanted > self.limit:
                if self._beyond is not None or any(other.can_go_on for other in self._shares):
                    return
                self._beyond = share
            self._waiters.popleft()
            wanted, share.wanted = share.wanted, 0
            self._set(share, max(wanted, share.held))
            share.since = self._clock.monotonic()
            # Not from within another connection's step.
            asyncio.get_running_loop().call_soon(share.on_room)

    async def _watch_over(self) -> None:
        while self._waiters:
            await self._clock.sleep(PATIENCE / 4)
            self._evict_one()
        self._watch = None

    def _evict_one(self) -> None:
        stalled = min(
            (share for share in self._shares if share.can_go_on and not share.excused),
            key=lambda share: share.since,
            default=None,
        )
        if (
            self._waiters
            and stalled is not None
            and self._clock.monotonic() - stalled.since >= PATIENCE
        ):
            stalled.on_evicted()


class BudgetShare:
    """What one connection holds of the budget. Implements `receive_buffer.Holding`."""

    __slots__ = ("_budget", "excused", "held", "on_evicted", "on_room", "paced", "since", "wanted")

    def __init__(
        self, budget: ReceiveBudget, on_room: Callable[[], None], on_evicted: Callable[[], None]
    ) -> None:
        self._budget = budget
        self.on_room = on_room
        self.on_evicted = on_evicted
        self.held = 0
        self.wanted = 0
        self.since = 0.0
        """When it last got on, as far as anybody waits."""
        self.excused = False
        """Stands still because the WAL takes nothing."""
        self.paced = False
        """Stands still because a rate is used up."""

    @property
    def can_go_on(self) -> bool:
        """Whether it holds something that it may give back without getting more."""
        return self.held > SMALLEST and not self.wanted and not self.paced

    def excuse(self, excused: bool) -> None:
        """Say whether the connection stands still because the WAL takes nothing."""
        self.excused = excused
        self.touch()

    def pace(self, paced: bool) -> None:
        """Say whether the connection stands still because a rate is used up."""
        self.paced = paced
        self._budget.pace_changed(self)

    def resize(self, nbytes: int) -> bool:
        """See `Holding.resize`."""
        return self._budget.resize(self, nbytes)

    def touch(self) -> None:
        """See `Holding.touch`."""
        self._budget.touch(self)

    def wait(self, nbytes: int) -> None:
        """After a refusal: be called back (`on_room`) when `nbytes` are held. Once at a time."""
        self._budget.wait(self, nbytes)

    def close(self) -> None:
        """Give everything back and wait for nothing."""
        self._budget.remove(self)
