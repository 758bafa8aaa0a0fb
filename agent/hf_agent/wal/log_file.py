"""One file of the log in memory: the open one, which grows, and sealed ones, which do not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from hf_agent.wal.extents import FileExtents
from hf_agent.wal.handle import Handle
from hf_agent.wal.index import Directory
from hf_agent.wal.record import HEADER_BYTES

if TYPE_CHECKING:
    from hf_agent.wal.reader import Plan

__all__ = ["OpenFile", "SealedFile"]


class OpenFile:
    """The newest file: records are added at its tail."""

    __slots__ = (
        *("extents", "first_time_ns", "handle", "path", "plans"),
        *("seed", "sequence", "size", "tail"),
    )

    def __init__(
        self, path: Path, sequence: int, size: int, seed: int, handle: Handle, tail: int
    ) -> None:
        self.path = path
        self.sequence = sequence
        self.size = size
        self.seed = seed
        self.handle = handle
        self.tail = tail
        """Where the next record goes."""
        self.extents = FileExtents()
        self.first_time_ns = 0
        """Time of the first DATA record; 0 when there is none."""
        self.plans: WeakSet[Plan] = WeakSet()


class SealedFile:
    """A full file: only its directory is kept in memory."""

    __slots__ = (
        *("directory", "first_time_ns", "handle", "index_offset", "path", "plans"),
        *("seed", "sequence", "size", "extents", "is_freed"),
    )

    def __init__(
        self,
        path: Path,
        sequence: int,
        size: int,
        seed: int,
        directory: Directory,
        index_offset: int,
        first_time_ns: int,
    ) -> None:
        self.path = path
        self.sequence = sequence
        self.size = size
        self.seed = seed
        self.directory = directory
        self.index_offset = index_offset
        """Where the INDEX record begins."""
        self.first_time_ns = first_time_ns
        self.handle: Handle | None = None
        self.extents: FileExtents | None = None
        """Kept only where the index on disk is damaged and the records were scanned instead."""
        self.plans: WeakSet[Plan] = WeakSet()
        """Plans that may still read this file; while there are any, it is not overwritten."""
        self.is_freed = False
        """Whether it is no longer part of the log."""

    @property
    def entries_base(self) -> int:
        """Where the INDEX payload begins."""
        return self.index_offset + HEADER_BYTES
