"""The system calls that the log makes, as an argument: tests inject faults and power loss here.

Every method may raise `OSError`. Nothing else in the package touches the file system.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

__all__ = ["Buffer", "Disk", "OsDisk", "preadv_all", "pwritev_all", "pwritev_all_sync"]

Buffer: TypeAlias = bytes | bytearray | memoryview

_RWF_DSYNC: int = getattr(os, "RWF_DSYNC", 0)  # Linux 4.7
_MAX_IOVECS = 1024  # IOV_MAX of Linux and the BSDs


class Disk(Protocol):
    """What a log needs of a file system, with the meaning that POSIX gives each call."""

    @property
    def piece_bytes(self) -> int:
        """What is longer is best written in several calls."""
        ...

    def mkdir(self, path: Path) -> None:
        """Create one directory, mode 0700."""
        ...

    def is_dir(self, path: Path) -> bool: ...

    def listdir(self, path: Path) -> list[str]: ...

    def open(self, path: Path, flags: int) -> int:
        """Open a file, mode 0600 where it is created; close-on-exec."""
        ...

    def close(self, fd: int) -> None: ...

    def size(self, fd: int) -> int: ...

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write at most 1024 buffers; may write less than asked."""
        ...

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        """`pwritev` whose bytes are on the disk when it returns, as after `fdatasync`.

        After ENOSPC the same bytes may be written again. After any other error nothing is known.
        """
        ...

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int: ...

    def fdatasync(self, fd: int) -> None: ...

    def fsync(self, fd: int) -> None: ...

    def fsync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        ...

    def fallocate(self, fd: int, length: int) -> None:
        """Reserve the file's first `length` bytes; it is at least that long afterwards."""
        ...

    def truncate(self, fd: int, length: int) -> None: ...

    def rename(self, source: Path, target: Path) -> None: ...

    def unlink(self, path: Path) -> None: ...

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        ...

    def lock(self, fd: int) -> bool:
        """Take an exclusive lock without waiting; False when somebody else has it."""
        ...


class OsDisk:
    """The real thing, on Linux and other POSIX systems."""

    piece_bytes = 256 << 10
    """For longer writes the kernel takes its largest pages. Those are what a virtual machine has
    given back to its host, which has to clear and map them anew."""

    def mkdir(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def is_dir(self, path: Path) -> bool:
        return path.is_dir()

    def listdir(self, path: Path) -> list[str]:
        return [entry.name for entry in path.iterdir()]

    def open(self, path: Path, flags: int) -> int:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        return os.pwritev(fd, buffers, offset)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        if _RWF_DSYNC:
            # One system call instead of two: less work, and one wait for the GIL less.
            try:
                return os.pwritev(fd, buffers, offset, _RWF_DSYNC)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
                    raise
        count = os.pwritev(fd, buffers, offset)
        os.fdatasync(fd)
        return count

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        return os.preadv(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fsync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fallocate(self, fd: int, length: int) -> None:
        try:
            os.posix_fallocate(fd, 0, length)
        except OSError as error:
            # File systems without preallocation: running out of space then shows at a write.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
            if os.fstat(fd).st_size < length:
                os.ftruncate(fd, length)

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def lock(self, fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def pwritev_all(disk: Disk, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
    """Write all buffers one after the other at `offset`.

    Goes on after short writes. Raises `OSError`; some of the bytes may be written then.
    """
    for piece in _pieces(buffers, disk.piece_bytes):
        offset += _write(disk, fd, piece, offset)


def pwritev_all_sync(
    disk: Disk, fd: int, buffers: Sequence[Buffer], size: int, offset: int
) -> None:
    """Write all buffers (`size` bytes) and sync them.

    Raises `OSError`: out of space (the same bytes may be written again), or final.
    """
    if size > disk.piece_bytes or len(buffers) > _MAX_IOVECS:
        pwritev_all(disk, fd, buffers, offset)
        disk.fdatasync(fd)
    elif disk.pwritev_sync(fd, buffers, offset) != size:
        # A short write: rare enough to begin again.
        pwritev_all(disk, fd, buffers, offset)
        disk.fdatasync(fd)


def preadv_all(disk: Disk, fd: int, buffers: Sequence[memoryview], offset: int) -> bool:
    """Fill all buffers (at most 1024) from `offset`; False when the file ends before that."""
    left = sum(view.nbytes for view in buffers)
    while left:
        done = disk.preadv(fd, buffers, offset)
        if done == 0:
            return False
        offset += done
        left -= done
        if left:
            buffers = _without_first(buffers, done)
    return True


def _pieces(buffers: Sequence[Buffer], limit: int) -> Iterator[list[Buffer]]:
    """The buffers, cut where `limit` bytes are full: for one call each."""
    piece: list[Buffer] = []
    room = limit
    for buffer in buffers:
        rest: Buffer = buffer
        while (size := _nbytes(rest)) >= room:
            view = memoryview(rest).cast("B")
            yield [*piece, view[:room]]
            piece, rest, room = [], view[room:], limit
        if size:
            piece.append(rest)
            room -= size
        if len(piece) == _MAX_IOVECS:
            yield piece
            piece, room = [], limit
    if piece:
        yield piece


def _write(
    disk: Disk,
    fd: int,
    buffers: Sequence[Buffer],
    offset: int,
) -> int:
    size = sum(map(_nbytes, buffers))
    left = size
    while True:
        done = disk.pwritev(fd, buffers, offset)
        left -= done
        if not left:
            return size
        if done == 0:
            raise OSError(errno.EIO, "the disk took no bytes")
        offset += done
        buffers = _without_first(buffers, done)


def _nbytes(buffer: Buffer) -> int:
    return buffer.nbytes if isinstance(buffer, memoryview) else len(buffer)


def _without_first(buffers: Sequence[Buffer], count: int) -> list[memoryview]:
    rest = []
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if count < view.nbytes:
            rest.append(view[count:])
            count = 0
        else:
            count -= view.nbytes
    return rest
