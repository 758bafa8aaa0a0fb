"""The system calls that the directory store makes, as one replaceable object.

A test can put another object in their place: one that fails a call, counts them, or ends the
process between two of them. Every call blocks and raises `OSError` as the call itself does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

__all__ = ["DirectoryEntry", "Disk", "OsDisk", "parent_of"]


def parent_of(path: str) -> str:
    """The directory of an absolute path without a trailing slash."""
    return path.rpartition("/")[0] or "/"


class DirectoryEntry(Protocol):
    """What a listing needs of `os.DirEntry`."""

    @property
    def name(self) -> str: ...

    def is_dir(self, *, follow_symlinks: bool = True) -> bool: ...

    def is_file(self, *, follow_symlinks: bool = True) -> bool: ...

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result: ...


class Disk(Protocol):
    """The calls in use, with the arguments of their namesakes in `os` and `fcntl`."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int: ...

    def close(self, fd: int) -> None: ...

    def writev(self, fd: int, buffers: Sequence[memoryview]) -> int: ...

    def pread(self, fd: int, nbytes: int, offset: int) -> bytes: ...

    def fsync(self, fd: int) -> None: ...

    def fstat(self, fd: int) -> os.stat_result: ...

    def stat(self, path: str) -> os.stat_result: ...

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        """Set the modification time of an open file, in nanoseconds since the epoch."""
        ...

    def link(self, source: str, target: str) -> None: ...

    def rename(self, source: str, target: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def mkdir(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def try_flock(self, fd: int) -> bool:
        """Take the exclusive lock of an open file; False when somebody else holds it."""
        ...

    def scandir(self, path: str) -> AbstractContextManager[Iterator[DirectoryEntry]]: ...


class OsDisk:
    """The real calls."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return os.open(path, flags, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
        return os.writev(fd, buffers)

    def pread(self, fd: int, nbytes: int, offset: int) -> bytes:
        return os.pread(fd, nbytes, offset)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, path: str) -> os.stat_result:
        return os.stat(path)  # noqa: PTH116 - paths are plain strings here, as the calls take them

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        os.utime(fd, ns=(nanoseconds, nanoseconds))

    def link(self, source: str, target: str) -> None:
        os.link(source, target, follow_symlinks=False)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)  # noqa: PTH104

    def unlink(self, path: str) -> None:
        os.unlink(path)  # noqa: PTH108

    def mkdir(self, path: str) -> None:
        os.mkdir(path)  # noqa: PTH102

    def rmdir(self, path: str) -> None:
        os.rmdir(path)  # noqa: PTH106

    def try_flock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def scandir(self, path: str) -> AbstractContextManager[Iterator[DirectoryEntry]]:
        return os.scandir(path)
