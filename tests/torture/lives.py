"""What befalls the lives of an agent: how each begins, what goes wrong in it, and how it ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torture.trouble import POINTS

__all__ = ["ENDS", "TROUBLES", "Life", "Outcomes", "lives"]

TROUBLES = ("none", "point", "wal-errors", "store-errors", "short-writes", "file-limit", "clock")
"""Kinds of trouble inside of the process; see `torture.trouble.arrange`."""
ENDS = ("kill", "stop-kill", "term", "term-kill")
"""By SIGKILL; by SIGKILL after some SIGSTOP and SIGCONT; by SIGTERM; by SIGKILL while it drains."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Life:
    """One life, as it was drawn."""

    trouble: dict[str, Any]
    end: str
    seconds: float
    """How long it may live once it is ready, or altogether if it `dies_early`."""
    dies_early: bool
    """Whether it is ended without waiting until it is ready."""
    flushes: bool
    """Whether SIGUSR1 has it flush on the way."""

    @property
    def may_fail(self) -> bool:
        """Whether it may end by itself with an error: only for a disk in trouble."""
        return any(name in self.trouble for name in ("wal_errors", "store_errors", "file_limit"))


def lives(seed: int, troubles: tuple[str, ...], *, s3: bool) -> Iterator[Life]:
    """Lives without end, drawn from the seed."""
    rng = random.Random(f"lives {seed}")
    points = [point for point in POINTS if not (s3 and point.startswith("disk."))]
    while True:
        trouble = _trouble(rng, rng.choice(troubles), points)
        # Most are short. In some there is time for the store, without which the WAL would fill up.
        seconds = rng.uniform(0.0, 0.3) if rng.random() < 0.75 else rng.uniform(0.3, 2.5)
        yield Life(
            trouble,
            rng.choices(ENDS, (70, 15, 5, 10))[0],
            seconds + (2.0 if "point" in trouble else 0.0),
            dies_early=rng.random() < 0.15,
            flushes=rng.random() < 0.1,
        )


def _trouble(rng: random.Random, kind: str, points: list[str]) -> dict[str, Any]:
    trouble: dict[str, Any] = {"seed": rng.getrandbits(32)}
    if kind == "point":
        trouble |= {
            "point": rng.choice(points),
            "count": rng.choice((1, 1, 2, 3, 5, 10, 20)),
            "after": rng.random() < 0.5,
        }
    elif kind == "wal-errors":
        trouble |= {"wal_errors": rng.choice((0.001, 0.01, 0.05))}
    elif kind == "store-errors":
        trouble |= {"store_errors": rng.choice((0.01, 0.05, 0.2))}
    elif kind == "short-writes":
        trouble |= {"short_writes": rng.choice((0.05, 0.5))}
    elif kind == "file-limit":
        # Below the size of a WAL's file, and below that of a large checkpoint.
        after = rng.choice((0.0, rng.uniform(0.1, 0.6)))
        trouble |= {"file_limit": rng.choice((MIB // 2, MIB + 1)), "limit_after": after}
    elif kind == "clock":
        trouble |= {"clock_jumps": True}
    else:
        assert kind == "none", kind
    return trouble


@dataclass
class Outcomes:
    """Counts of what happened."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    @property
    def kills(self) -> int:
        """Deaths by SIGKILL, from outside or at a point."""
        return sum(count for what, count in self.counts.items() if what.startswith("killed"))
