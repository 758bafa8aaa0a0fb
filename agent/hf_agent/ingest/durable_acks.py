"""What one connection has had taken and not yet been told is durable: grouped by WAL batch.

Many appends of a connection share a batch, and so one callback, one acknowledgement and one
observation. Memory is bounded by the batches under way and the streams in them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from hf_agent.clock import Clock

__all__ = ["Acknowledged", "DurableAcks"]


@dataclass(slots=True)
class _Group:
    batch: int
    since: float
    id: int = 0
    records: int = 0
    positions: dict[str, int] = field(default_factory=dict)


class Acknowledged(NamedTuple):
    """Appends up to `id` are durable; `records` of them and `positions` newly so.

    `durations` has the seconds since the first append of each group was taken.
    """

    id: int
    records: int
    positions: dict[str, int]
    durations: tuple[float, ...]


class DurableAcks:
    """Groups in the order of their batches."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._groups: deque[_Group] = deque()

    def __bool__(self) -> bool:
        return bool(self._groups)

    def taken(self, batch: int, id: int, stream: str, position: int, records: int) -> bool:
        """`records` up to `id` are in `batch`. True: the batch is new, ask to be told of it."""
        group = self._group(batch)
        is_new = group.id == 0
        group.id = id
        group.records += records
        group.positions[stream] = position
        return is_new

    def known(self, batch: int, id: int) -> bool:
        """Everything up to `id` was taken before, and is durable with `batch`. As `taken`."""
        group = self._group(batch)
        is_new = group.id == 0
        group.id = id
        return is_new

    def durable(self, batch: int) -> Acknowledged | None:
        """`batch` is durable: what may be acknowledged now, if anything."""
        groups = self._groups
        if not groups or groups[0].batch > batch:
            return None
        now = self._clock.monotonic()
        id = records = 0
        positions: dict[str, int] = {}
        durations = []
        while groups and groups[0].batch <= batch:
            group = groups.popleft()
            id = group.id
            records += group.records
            positions.update(group.positions)
            if group.records:
                durations.append(now - group.since)
        return Acknowledged(id, records, positions, tuple(durations))

    def _group(self, batch: int) -> _Group:
        groups = self._groups
        # An older batch cannot come behind a newer one: the acknowledgement is cumulative.
        if not groups or groups[-1].batch < batch:
            groups.append(_Group(batch, self._clock.monotonic()))
        return groups[-1]
