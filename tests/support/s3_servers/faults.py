"""What goes wrong with which request: drawn from one seed, logged, and replayed from the log.

The n-th request of an operation meets the same fault for the same seed, however requests of
different operations are interleaved: each operation has a sequence of its own.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from support.s3_servers.operations import Operation

__all__ = ["Decision", "Fault", "FaultPlan", "Logged", "Script", "SeededPlan"]


class Fault(Enum):
    """What can go wrong; `Decision.amount` says how much."""

    LATENCY = "latency"
    """The server is asked `amount` seconds later."""
    RESET_BEFORE = "reset-before"
    """The connection is reset; the server never sees the request."""
    RESET_AFTER = "reset-after"
    """The server has done what was asked, but the connection is reset: the lost answer."""
    DELIVERED_LATE = "delivered-late"
    """The connection is reset; the server sees the request `amount` seconds later."""
    INTERNAL_ERROR = "internal-error"
    """500, not done."""
    UNAVAILABLE = "unavailable"
    """503 ServiceUnavailable, not done."""
    SLOW_DOWN = "slow-down"
    """503 SlowDown, not done."""
    DONE_BUT_ERROR = "done-but-error"
    """Done, but a gateway answers 504 in the server's place."""
    FORBIDDEN = "forbidden"
    """403 AccessDenied, not done."""
    TRUNCATED = "truncated"
    """Done; the answer ends after the share `amount` of it."""
    STALLED = "stalled"
    """The same, but the connection stays open, and nothing more comes."""
    TWICE_FIRST = "twice-first"
    """Delivered twice, one after the other; the client gets the first answer."""
    TWICE_SECOND = "twice-second"
    """The same; the client gets the second answer."""


_RUNS = {
    Fault.INTERNAL_ERROR: 3,
    Fault.UNAVAILABLE: 5,
    Fault.SLOW_DOWN: 5,
    Fault.FORBIDDEN: 4,
}
"""Faults that come in bursts, and the longest burst in requests."""

_MOST_SECONDS = {Fault.LATENCY: 0.03, Fault.DELIVERED_LATE: 0.1}


@dataclass(frozen=True, slots=True)
class Decision:
    """What happens to one request."""

    fault: Fault | None = None
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Logged:
    """A fault that one request met."""

    operation: Operation
    number: int
    """Which request of this operation, from 0 on."""
    decision: Decision

    def __str__(self) -> str:
        assert self.decision.fault is not None
        return (
            f"{self.operation.value} {self.number} {self.decision.fault.value} "
            f"{self.decision.amount!r}"
        )

    @classmethod
    def parse(cls, line: str) -> Logged:
        """The inverse of `str`."""
        operation, number, fault, amount = line.split()
        return cls(Operation(operation), int(number), Decision(Fault(fault), float(amount)))


class FaultPlan(Protocol):
    """Decides what happens to each request, in the order in which they come."""

    log: list[Logged]

    def decide(self, operation: Operation) -> Decision:
        """What happens to the next request of this operation."""
        ...


class Script:
    """The faults that it is given, and none else: a log to be replayed, or a test's own."""

    def __init__(self, faults: Iterable[Logged | str]) -> None:
        read = (fault if isinstance(fault, Logged) else Logged.parse(fault) for fault in faults)
        self._decisions = {(each.operation, each.number): each.decision for each in read}
        self._seen: Counter[Operation] = Counter()
        self.log: list[Logged] = []

    def decide(self, operation: Operation) -> Decision:
        """See `FaultPlan.decide`."""
        number = self._seen[operation]
        self._seen[operation] += 1
        decision = self._decisions.get((operation, number), Decision())
        if decision.fault is not None:
            self.log.append(Logged(operation, number, decision))
        return decision


@dataclass(slots=True)
class _Sequence:
    """The decisions for one operation, as far as they have been drawn."""

    rng: random.Random
    number: int = 0
    burst: Fault | None = None
    burst_left: int = 0


@dataclass(slots=True)
class SeededPlan:
    """Faults of every kind; which kinds are frequent differs from seed to seed."""

    seed: int
    rate: float = 0.25
    """Share of requests at which a fault begins."""
    without: frozenset[Fault] = frozenset()
    """Faults that do not happen: nothing happens where they would."""
    horizon: int = 2000
    """Requests of each operation after which no fault begins any more: every run ends."""
    log: list[Logged] = field(default_factory=list)
    _weights: list[float] = field(init=False)
    _sequences: dict[Operation, _Sequence] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        rng = random.Random(f"{self.seed}")
        self._weights = [rng.choice((0.2, 1.0, 3.0)) for _ in Fault]

    def decide(self, operation: Operation) -> Decision:
        """See `FaultPlan.decide`."""
        if operation not in self._sequences:
            rng = random.Random(f"{self.seed} {operation.value}")
            self._sequences[operation] = _Sequence(rng)
        sequence = self._sequences[operation]
        decision = self._draw(sequence)
        if decision.fault in self.without:
            decision = Decision()
        if decision.fault is not None:
            self.log.append(Logged(operation, sequence.number, decision))
        sequence.number += 1
        return decision

    def _draw(self, sequence: _Sequence) -> Decision:
        rng = sequence.rng
        if sequence.burst_left:
            sequence.burst_left -= 1
            return Decision(sequence.burst)
        if sequence.number >= self.horizon or rng.random() >= self.rate:
            return Decision()
        fault = rng.choices(list(Fault), self._weights)[0]
        if fault in _RUNS:
            sequence.burst, sequence.burst_left = fault, rng.randrange(_RUNS[fault])
            return Decision(fault)
        return Decision(fault, rng.random() * _MOST_SECONDS.get(fault, 1.0))
