"""What a verification says: problems as the checks find them, findings as the caller gets them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum

__all__ = ["Affected", "Finding", "Kind", "Problem", "Severity", "VerifyReport"]


class Severity(StrEnum):
    """Whether something is wrong, or merely worth knowing."""

    ERROR = "error"
    NOTE = "note"


class Kind(Enum):
    """What of an object a problem makes unreadable."""

    OBJECT = "all of it"
    NODE = "one map node"
    BLOCK = "one data block"
    CONTENT = "the content of the whole container"
    NOTHING = "nothing that is needed to read the content"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a check has found."""

    object: int
    """Which one, by its place in the inventory; -1 for the inode and what is not listed."""
    kind: Kind
    number: int
    """Of the node or block in its object; the code of an object that is not there."""
    key: str
    offset: int
    what: str
    text: str
    block_index: int | None = None
    """Which block of the file a data block is, by the entries of its object."""


@dataclass(frozen=True, slots=True)
class Affected:
    """Bytes of the content that cannot be read because of a finding."""

    checkpoint: int | None
    """As of this checkpoint only; None: of the content as it is now."""
    ranges: tuple[tuple[int, int], ...]
    """`[start, end)` in bytes, ascending; the first ones."""
    nbytes: int
    """Of all ranges together."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    severity: Severity
    object: str
    """Key of the object, relative to the store's root."""
    offset: int
    """Where in the object, in bytes."""
    what: str
    """`inode`, `header`, `entries`, `map node 3`, `data block 17`, `trailer` or `object`."""
    problem: str
    affected: Affected | None = None
    """None where no content is, or where it is not known what."""


@dataclass(slots=True)
class VerifyReport:
    """Outcome of a verification. The lists have a limit; the counts beside them have none."""

    key: str
    checkpoint: int = 0
    """The newest, 0 when there is none."""
    size: int = 0
    """Of the content, in bytes."""
    versions: int = 0
    """Checkpoints that can be opened."""
    objects: int = 0
    with_checksums: int = 0
    """Objects that have a trailer."""
    nbytes: int = 0
    """Bytes of all objects."""
    errors: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    error_count: int = 0
    note_count: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.error_count == 0
