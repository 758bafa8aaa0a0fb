"""Which file of a damaged log is which, by what its head says and, where that is damaged, its name.

A head with a good checksum says of which log and which sequence number a file is: files that were
renamed, swapped or copied are put in their places by that.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from hf_agent.wal.disk import Disk
from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.file_head import (
    HEAD_BYTES,
    REPAIR_MARKER,
    FileHead,
    file_sequence,
    read_head,
)
from hf_agent.wal.handle import Handle
from hf_agent.wal.index import FOOTER_BYTES
from hf_agent.wal.record import file_seed
from hf_agent.wal.recovery import is_successor
from hf_agent.wal.repair.walk import (
    Aside,
    Event,
    Harmless,
    Unreadable,
    walk,
)
from hf_agent.wal.scan import RecordScanner

__all__ = ["LogFiles"]


@dataclass(frozen=True, slots=True)
class _Source:
    """One file of the log."""

    path: Path
    sequence: int
    size: int
    """Bytes that it has."""
    head: FileHead | None
    """None where it is damaged."""
    problem: str
    """What is wrong with the head."""


class LogFiles:
    """The files of one log. Raises `WalCorrupt` when none of them says which log it is."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self._disk = disk
        self._directory = directory
        found = [self._look(directory / name) for name in _names(disk, directory)]
        if not found:
            raise WalCorrupt(directory, 0, "no file of a write-ahead log is here")
        self.wal_id = _elect(found)
        self.aside: list[Aside] = []
        """Files that are no part of the log, whatever they are called."""
        self._sources = self._place(found)
        self.largest = max(max(each.size, each.head.size if each.head else 0) for each in found)
        """Size of the largest file, in bytes."""
        named = [file_sequence(each.path.name) or 0 for each in found]
        self.last_sequence = max([*named, *self._sources])
        """The new log's files have higher ones."""
        self.oldest = self._sources[min(self._sources)].path

    def events(self) -> Iterator[Event]:
        """What stands in the files, oldest first. May be asked for more than once."""
        yield from self.aside
        batch = 0
        expected = min(self._sources)
        newest = max(self._sources)
        for sequence, source in sorted(self._sources.items()):
            missing = sequence - expected
            if missing:
                reason = f"{missing} file(s) before this one are missing"
                yield Unreadable(source.path, 0, 0, missing * self.largest, reason)
            expected = sequence + 1
            handle = Handle(self._disk, self._disk.open(source.path, os.O_RDONLY))
            try:
                batch = yield from self._file(source, handle, batch, newest=sequence == newest)
            finally:
                handle.close()

    def _file(
        self, source: _Source, handle: Handle, batch: int, *, newest: bool
    ) -> Generator[Event, None, int]:
        path, size, head = source.path, source.size, source.head
        if source.problem:
            yield Harmless(path, 0, min(size, HEAD_BYTES), source.problem)
        expected = head.size if head else max(size, self.largest if size < HEAD_BYTES else size)
        if size > expected:
            reason = f"the file has {size} bytes, its head says {expected}"
            yield Harmless(path, expected, size - expected, reason)
        reach = min(size, expected - FOOTER_BYTES)
        seed = file_seed(self.wal_id, source.sequence)
        scanner = RecordScanner(self._disk, handle, path, seed, reach + FOOTER_BYTES)
        cut = size < expected
        end = yield from walk(scanner, head, batch, newest=newest, cut=cut)
        if cut:
            reason = f"the file has {size} of its {expected} bytes"
            if end.sealed or (newest and not end.at_cut):
                yield Harmless(path, size, 0, reason)
            else:
                length = max(0, size - end.offset)
                yield Unreadable(path, end.offset, length, expected - end.offset, reason)
        elif newest and end.sealed and not self._successor_waits(source.sequence):
            reason = "the file was sealed, and the next one is missing"
            yield Unreadable(path, size, 0, self.largest, reason)
        return end.batch

    def _successor_waits(self, sequence: int) -> bool:
        return is_successor(self._disk, self._directory, self.wal_id, sequence + 1)

    def _look(self, path: Path) -> _Source:
        handle = Handle(self._disk, self._disk.open(path, os.O_RDONLY))
        sequence = file_sequence(path.name)
        try:
            size = self._disk.size(handle.fd)
            head = read_head(self._disk, handle.fd, path)
            return _Source(path, head.sequence, size, head, "")
        except WalCorrupt as error:
            if "unknown format version" in error.reason:
                raise  # what a later version means is not ours to judge
            return _Source(path, -1 if sequence is None else sequence, size, None, error.reason)
        finally:
            handle.close()

    def _place(self, found: list[_Source]) -> dict[int, _Source]:
        """One file for each sequence number: a head counts more than a name."""
        sources: dict[int, _Source] = {}

        def rank(each: _Source) -> tuple[bool, bool]:
            return each.head is None, file_sequence(each.path.name) != each.sequence

        for each in sorted(found, key=rank):
            if each.head is not None and each.head.wal_id != self.wal_id:
                self._set_aside(each, "the file belongs to another write-ahead log")
            elif each.sequence < 0:
                self._set_aside(each, f"not a file of this log by its name; {each.problem}")
            elif each.sequence in sources:
                self._set_aside(each, f"a copy of the file with sequence {each.sequence:x}")
            else:
                sources[each.sequence] = each
                if file_sequence(each.path.name) != each.sequence:
                    reason = f"this is the file with sequence {each.sequence:x}; it is read as that"
                    self.aside.append(Aside(each.path, reason))
        return sources

    def _set_aside(self, source: _Source, reason: str) -> None:
        self.aside.append(Aside(source.path, reason))


def _names(disk: Disk, directory: Path) -> list[str]:
    names = sorted(disk.listdir(directory))
    return [name for name in names if name.endswith(".wal") and name != REPAIR_MARKER]


def _elect(found: list[_Source]) -> bytes:
    """The id that most heads name; among equals, that of the newest file."""
    votes: dict[bytes, int] = {}
    for each in reversed(found):
        if each.head is not None:
            votes[each.head.wal_id] = votes.get(each.head.wal_id, 0) + 1
    if not votes:
        raise WalCorrupt(found[-1].path, 0, found[-1].problem)
    return max(votes, key=lambda wal_id: votes[wal_id])
