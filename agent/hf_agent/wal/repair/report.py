"""What a repair found and did."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Damage", "Loss", "RepairReport"]


@dataclass(slots=True)
class Damage:
    """A place in a file that holds nothing provable."""

    file: str
    offset: int
    bytes: int
    reason: str
    stream: str = ""
    """Whose bytes were lost here, where a header tells; otherwise empty."""
    position: int = 0
    """Stream position of the first of them."""
    dropped_at: int | None = None
    """Where these bytes begin in `dropped.bin`; None where there are none, or the file is whole."""
    dropped_bytes: int = 0
    """How many stand there: zeros at the end are left out."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What of a stream is not in the log any more. The store may have it all the same."""

    stream: str
    gaps: tuple[tuple[int, int], ...]
    """Stream positions, first and behind the last, of bytes that are gone."""
    end: int
    """Stream position after the last provable byte."""
    end_unknown: int
    """How many bytes behind that may be gone too, at most: nothing tells. 0: none."""
    bind_lost: bool
    """Whether its last note (its bind) is gone: then only the container tells what it has."""
    rebound: bool
    """How the stream goes on. False: zero bytes stand for the gaps, so every position is as before,
    and only what the store does not have by then goes there. True: positions have lost their
    sense; what is provable goes behind whatever the container holds then."""
    kept_from: int
    """With `rebound`: bytes from this position on that the store has already are stored twice."""


@dataclass(slots=True)
class RepairReport:
    """The outcome. Nothing was changed where `repaired` is false."""

    directory: str
    repaired: bool = False
    resumed: bool = False
    """Whether an earlier repair that was cut off was brought to its end, and nothing else done."""
    copy: Path | None = None
    """Where the files of the damaged log are now."""
    records: int = 0
    """DATA records kept, and their payload bytes."""
    bytes: int = 0
    zeros: int = 0
    """Zero bytes that stand for lost ones, beside those."""
    streams: int = 0
    damages: list[Damage] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    torn_bytes: int = 0
    """Of an unfinished batch at the log's end. Nobody was told that it is durable: no damage."""
    torn: Damage | None = None
    """Where that was, when it was left out of a repaired log."""
    marks_incomplete: bool = False
    """Whether marks, binds or new streams may be missing without a trace."""

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        values = asdict(self)
        values["copy"] = str(self.copy) if self.copy else None
        return values
