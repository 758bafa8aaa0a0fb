"""The set of files: sealed ones, the open one, the spare; what pins the oldest, and freeing.

The writer thread changes the set; readers look at it. Both hold `lock` for that, and nobody
holds it over a write or a sync.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import TypeVar

from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Disk
from hf_agent.wal.errors import is_out_of_space
from hf_agent.wal.file_head import SPARE_NAME
from hf_agent.wal.handle import Handle, HandleCache
from hf_agent.wal.index_cache import IndexCache
from hf_agent.wal.log_file import OpenFile, SealedFile
from hf_agent.wal.state import LogState

__all__ = ["FileSet", "Spare", "SyncFailure", "sync"]

_Target = TypeVar("_Target")


class SyncFailure(Exception):
    """A sync failed: what is on disk is unknown until the next recovery. Final."""


class Spare:
    """A preallocated file that is not yet part of the log."""

    __slots__ = ("handle", "size")

    def __init__(self, handle: Handle, size: int) -> None:
        self.handle = handle
        self.size = size


class FileSet:
    """All files of one log, and the durable state at its end."""

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        config: WalConfig,
        *,
        wal_id: bytes,
        state: LogState,
        sealed: list[SealedFile],
        open_file: OpenFile,
        next_batch: int,
    ) -> None:
        self.disk = disk
        self.directory = directory
        self.config = config
        self.wal_id = wal_id
        self.lock = Lock()
        self.state = state
        """Durable state; written by the writer thread only."""
        self.sealed = sealed
        """Oldest first."""
        self.open = open_file
        self.spare: Spare | None = None
        self.next_batch = next_batch
        """Number of the next batch in the files."""
        self.full_reason = ""
        """Why the last spare could not be had; "" when there is one."""
        self._handles = HandleCache()
        self.index_cache = IndexCache(config.index_cache_bytes)
        self.pins: dict[int, int] = {}
        """Streams with uncommitted bytes in the oldest sealed file, and where those end."""
        self._pin()

    @property
    def size_bytes(self) -> int:
        """Bytes that the files occupy, the spare included."""
        with self.lock:
            spare = self.spare.size if self.spare else 0
            return sum(file.size for file in self.sealed) + self.open.size + spare

    @property
    def spare_path(self) -> Path:
        return self.directory / SPARE_NAME

    def handle(self, file: OpenFile | SealedFile) -> Handle:
        """A handle for reading `file`; the caller holds the lock. Raises `OSError`."""
        if isinstance(file, OpenFile):
            return file.handle
        handle = file.handle
        if handle is None:
            handle = file.handle = Handle(self.disk, self.disk.open(file.path, os.O_RDONLY))
        self._handles.used(file)
        return handle

    def became_sealed(self, file: SealedFile, handle: Handle, successor: OpenFile) -> None:
        """Put `successor` in the place of the open file, which is `file` from now on."""
        with self.lock:
            file.handle = handle
            file.plans = self.open.plans
            self._handles.used(file)
            self.sealed.append(file)
            self.open = successor
            self.spare = None
            if len(self.sealed) == 1:
                self._pin()

    def unpin(self, number: int, committed: int) -> bool:
        """A stream was committed; True when nothing pins the oldest file any more.

        The caller holds the lock.
        """
        end = self.pins.get(number)
        if end is None or committed < end:
            return False
        del self.pins[number]
        return not self.pins

    def freeable(self) -> list[SealedFile]:
        """Sealed files, oldest first, whose bytes are all committed."""
        with self.lock:
            if not self.sealed or self.pins:
                return []
            count = 1
            while count < len(self.sealed) and not self._uncommitted(self.sealed[count]):
                count += 1
            return self.sealed[:count]

    def free(self, file: SealedFile) -> None:
        """Take the oldest file out of the log; what replaces it is durable already.

        It becomes the spare when there is none. Raises `OSError`, `SyncFailure`.
        """
        with self.lock:
            self.sealed.remove(file)
            directory = file.directory
            for number, end in zip(directory.numbers, directory.ends, strict=True):
                self.state.streams[number].first = end
            # From here on no new plan finds the file. One that reads it keeps its descriptor,
            # and the bytes behind that must stay: then the file is unlinked, not used again.
            reuse = self.spare is None and not file.plans and file.size == self.config.file_bytes
            self._handles.forget(file)
            self._pin()
        self.index_cache.forget(file)
        if reuse:
            self.disk.rename(file.path, self.spare_path)
        else:
            self.disk.unlink(file.path)
        # One by one: a gap in the sequence after a crash would look like a lost file. And before
        # the spare is overwritten: under its old name it must be whole.
        sync(self.disk.fsync_dir, self.directory)
        if reuse:
            handle = Handle(self.disk, self.disk.open(self.spare_path, os.O_RDWR))
            self._has_spare(Spare(handle, file.size))

    def ensure_spare(self) -> bool:
        """Make a spare unless there is one; False when the limit or the disk forbids it.

        Its name is durable. Raises `OSError` for other causes, and `SyncFailure`.
        """
        if self.spare is not None:
            return True
        size = self.config.file_bytes
        if self.size_bytes + size > self.config.max_bytes and self.sealed:
            self.full_reason = (
                "the write-ahead log is at its limit until the store takes what it holds "
                f"max_bytes={self.config.max_bytes}"
            )
            return False
        path = self.spare_path
        try:
            fd = self.disk.open(path, os.O_RDWR | os.O_CREAT)
            handle = Handle(self.disk, fd)
            if self.disk.size(fd) > size:
                self.disk.truncate(fd, size)
            self.disk.fallocate(fd, size)
            # A file that is sealed without this one behind it would look as if one were missing.
            sync(self.disk.fsync_dir, self.directory)
        except OSError as error:
            if not is_out_of_space(error):
                raise
            self._drop_partial_spare()
            self.full_reason = (
                "no space for another file of the write-ahead log: make room on its disk "
                f"path={self.directory} errno={error.errno}"
            )
            return False
        self._has_spare(Spare(handle, size))
        return True

    def oldest_time(self) -> float:
        """Unix seconds of the first record in the oldest file with uncommitted bytes; or 0.0."""
        with self.lock:
            if self.pins:
                return self.sealed[0].first_time_ns / 1e9
            for file in self.sealed:
                if self._uncommitted(file):
                    return file.first_time_ns / 1e9
            numbers = list(self.open.extents.streams)
        streams = self.state.streams
        waiting = any(streams[number].committed < streams[number].durable for number in numbers)
        return self.open.first_time_ns / 1e9 if waiting else 0.0

    def close(self) -> None:
        """Let go of all descriptors; plans that still live keep theirs."""
        with self.lock:
            for file in self.sealed:
                self._handles.forget(file)
            self.spare = None

    def _drop_partial_spare(self) -> None:
        # What was allocated of it would only make the disk fuller.
        try:
            self.disk.unlink(self.spare_path)
        except FileNotFoundError:
            pass

    def _has_spare(self, spare: Spare) -> None:
        with self.lock:
            self.spare = spare
        self.full_reason = ""

    def _uncommitted(self, file: SealedFile) -> dict[int, int]:
        streams = self.state.streams
        directory = file.directory
        return {
            number: end
            for number, end in zip(directory.numbers, directory.ends, strict=True)
            if streams[number].committed < end
        }

    def _pin(self) -> None:
        self.pins = self._uncommitted(self.sealed[0]) if self.sealed else {}


def sync(call: Callable[[_Target], None], target: _Target) -> None:
    """Make a sync call; its failure is final, also for want of space."""
    try:
        call(target)
    except OSError as error:
        raise SyncFailure(
            f"{(error.strerror or str(error)).lower()} errno={error.errno}"
        ) from error
