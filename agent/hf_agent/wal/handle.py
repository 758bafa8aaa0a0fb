"""Open file descriptors that close themselves when nobody uses them any more.

A sealed file is opened when it is read. Whoever reads holds the handle, so that neither the bound
on open files nor the freeing of the file takes the descriptor away under a reader.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from hf_agent.wal.disk import Disk

__all__ = ["Handle", "HandleCache"]


class Handle:
    """A file descriptor; closed when the last reference goes."""

    __slots__ = ("_disk", "fd")

    def __init__(self, disk: Disk, fd: int) -> None:
        self._disk = disk
        self.fd = fd

    def close(self) -> None:
        """Close now; only for a descriptor that nobody else uses. Idempotent."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            self._disk.close(fd)

    def __del__(self) -> None:
        self.close()


class _HasHandle(Protocol):
    handle: Handle | None
    sequence: int


class HandleCache:
    """Keeps the most recently used handles of sealed files; the caller holds the log's lock."""

    def __init__(self, limit: int = 32) -> None:
        self._limit = limit
        self._files: OrderedDict[int, _HasHandle] = OrderedDict()

    def used(self, file: _HasHandle) -> None:
        """Note that `file` was just used; the least recently used one may lose its handle."""
        self._files[file.sequence] = file
        self._files.move_to_end(file.sequence)
        while len(self._files) > self._limit:
            self._files.popitem(last=False)[1].handle = None

    def forget(self, file: _HasHandle) -> None:
        """Let go of a file that leaves the log."""
        self._files.pop(file.sequence, None)
        file.handle = None
