"""Disks for the directory store that record, fail or die at a chosen system call."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from hf_agent.store.disk import DirectoryEntry, OsDisk

__all__ = ["DyingDisk", "FailingDisk", "HookedDisk", "Killed", "RecordingDisk"]

_T = TypeVar("_T")


class HookedDisk(OsDisk):
    """The real disk with `before` called ahead of each call."""

    def before(self, name: str, *args: Any) -> None:
        """May record, or raise instead of the call."""

    def _do(self, name: str, call: Callable[..., _T], *args: Any) -> _T:
        self.before(name, *args)
        return call(*args)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return self._do("open", super().open, path, flags, mode)

    def close(self, fd: int) -> None:
        self._do("close", super().close, fd)

    def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
        return self._do("writev", super().writev, fd, buffers)

    def pread(self, fd: int, nbytes: int, offset: int) -> bytes:
        return self._do("pread", super().pread, fd, nbytes, offset)

    def fsync(self, fd: int) -> None:
        self._do("fsync", super().fsync, fd)

    def fstat(self, fd: int) -> os.stat_result:
        return self._do("fstat", super().fstat, fd)

    def stat(self, path: str) -> os.stat_result:
        return self._do("stat", super().stat, path)

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        self._do("set_mtime", super().set_mtime, fd, nanoseconds)

    def link(self, source: str, target: str) -> None:
        self._do("link", super().link, source, target)

    def rename(self, source: str, target: str) -> None:
        self._do("rename", super().rename, source, target)

    def unlink(self, path: str) -> None:
        self._do("unlink", super().unlink, path)

    def mkdir(self, path: str) -> None:
        self._do("mkdir", super().mkdir, path)

    def rmdir(self, path: str) -> None:
        self._do("rmdir", super().rmdir, path)

    def try_flock(self, fd: int) -> bool:
        return self._do("flock", super().try_flock, fd)

    def scandir(self, path: str) -> AbstractContextManager[Iterator[DirectoryEntry]]:
        return self._do("scandir", super().scandir, path)


class RecordingDisk(HookedDisk):
    """Records each call with what it was about: `("fsync", "/path/of/the/open/file")`."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.threads: set[int] = set()

    def before(self, name: str, *args: Any) -> None:
        self.threads.add(threading.get_ident())
        subject = args[-1] if name in ("link", "rename") else args[0]
        if isinstance(subject, int):
            subject = os.readlink(f"/proc/self/fd/{subject}")
        self.calls.append((name, str(subject)))

    def names(self, *wanted: str) -> list[tuple[str, str]]:
        """The recorded calls of these names, in order."""
        return [call for call in self.calls if call[0] in wanted]


class FailingDisk(HookedDisk):
    """Fails every call of one name with an error number, `times` times at most."""

    def __init__(self, name: str, number: int, *, times: int = 1 << 30) -> None:
        self._name = name
        self._number = number
        self.times = times

    def before(self, name: str, *args: Any) -> None:
        if name == self._name and self.times:
            self.times -= 1
            raise OSError(self._number, os.strerror(self._number))


class Killed(BaseException):
    """The process has ended here."""


class DyingDisk(HookedDisk):
    """Ends "the process" before call number `last`: nothing is done any more, locks are freed."""

    def __init__(self, last: int) -> None:
        self.left = last
        self._open: set[int] = set()

    @property
    def dead(self) -> bool:
        return self.left < 0

    def before(self, name: str, *args: Any) -> None:
        self.left -= 1
        if self.dead:
            for fd in self._open:
                os.close(fd)  # what the kernel does for a process that ends
            self._open.clear()
            raise Killed

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        fd = super().open(path, flags, mode)
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        super().close(fd)
        self._open.discard(fd)
