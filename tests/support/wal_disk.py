"""A disk in memory for the write-ahead log: loses what was not synced, fills up, fails, dies.

Power loss keeps an arbitrary subset of the unsynced 512-byte sectors and of the unsynced changes of
names, as real disks do.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hf_agent.wal.disk import Buffer

__all__ = ["MemoryDisk", "PowerLoss"]

SECTOR = 512

_ROOT = "/wal"
_PREFIX = _ROOT + "/"


class PowerLoss(BaseException):
    """The machine stops here. No `Exception`: nothing may handle it."""


@dataclass(eq=False)
class _Inode:
    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def sync(self) -> None:
        del self.durable[len(self.data) :]
        self.durable.extend(bytes(len(self.data) - len(self.durable)))
        for sector in self.dirty:
            part = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(self.data)))
            self.durable[part] = self.data[part]
        self.dirty.clear()

    def lose(self, rng: random.Random) -> None:
        keep_size = len(self.data) if rng.random() < 0.5 else len(self.durable)
        lost = bytearray(self.durable[:keep_size].ljust(keep_size, b"\0"))
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for sector in sorted(self.dirty):
            if rng.random() < share:
                part = slice(sector * SECTOR, min((sector + 1) * SECTOR, keep_size))
                if part.start < keep_size:
                    lost[part] = self.data[part]
        self.data, self.durable, self.dirty = lost, bytearray(lost), set()


_Change = tuple[str, "_Inode | None"]  # a name and what it names from then on


class MemoryDisk:
    """Implements `hf_agent.wal.Disk` for the directory `root` and folders in it, one level deep.

    Files of a folder have names with a slash. Not for several threads.
    """

    root = Path(_ROOT)
    piece_bytes = 256 << 10

    def __init__(self) -> None:
        self.names: dict[str, _Inode] = {}
        self.durable_names: dict[str, _Inode] = {}
        self.unsynced: list[list[_Change]] = []
        self.made = False
        self.folders: set[str] = set()
        """Made at once and for good: only what they hold can be lost."""
        self.fds: dict[int, _Inode] = {}
        self.locked: set[int] = set()
        self.next_fd = 3
        self.operations = 0
        """Calls that change something, so far."""
        self.dies_at = 0
        """The number of the changing call that is the machine's last; 0: none."""
        self.capacity = 1 << 60
        """Bytes that all files may have together."""
        self.errors: dict[str, int] = {}
        """Calls that fail, by name, and with which errno."""
        self.calls: list[str] = []
        """Names of all changing calls."""
        self.largest_read = 0
        self.reads = 0

    def put(self, files: dict[str, bytes]) -> None:
        """Make the directory hold exactly these files, durably."""
        self.made = True
        self.names = {
            name: _Inode(bytearray(data), bytearray(data)) for name, data in files.items()
        }
        self._restart()

    # Faults.

    def power_loss(self, rng: random.Random) -> None:
        """What the next start finds."""
        names = dict(self.durable_names)
        for changes in self.unsynced:
            if rng.random() < 0.5:
                _apply(names, changes)
        for inode in {id(inode): inode for inode in names.values()}.values():
            inode.lose(rng)
        self.names = names
        self._restart()

    def process_death(self) -> None:
        """The process dies, the machine does not: everything written is still there."""
        self._restart()

    def _restart(self) -> None:
        self.durable_names = dict(self.names)
        self.unsynced = []
        self.fds = {}
        self.locked = set()
        self.dies_at = 0

    def _changes(self, name: str) -> None:
        self.calls.append(name)
        self.operations += 1
        if self.operations == self.dies_at:
            raise PowerLoss
        self._fails(name)

    def _fails(self, name: str) -> None:
        if name in self.errors:
            code = self.errors[name]
            raise OSError(code, os.strerror(code))

    # The protocol.

    def mkdir(self, path: Path) -> None:
        self._changes("mkdir")
        if path == self.root:
            self.made = True
        elif self._key(path) in self.folders:
            raise FileExistsError(errno.EEXIST, "file exists", str(path))
        else:
            self.folders.add(self._key(path))

    def rmdir(self, path: Path) -> None:
        self._changes("rmdir")
        if self.listdir(path):
            raise OSError(errno.ENOTEMPTY, "directory not empty", str(path))
        self.folders.remove(self._key(path))

    def is_dir(self, path: Path) -> bool:
        return self.made if path == self.root else self._key(path) in self.folders

    def listdir(self, path: Path) -> list[str]:
        if path == self.root:
            return [name for name in self.names if "/" not in name] + sorted(self.folders)
        start = self._key(path) + "/"
        return [name.removeprefix(start) for name in self.names if name.startswith(start)]

    def _key(self, path: Path) -> str:
        key = str(path).removeprefix(_PREFIX)  # some tests make millions of calls
        assert not key.startswith("/"), path
        return key

    def open(self, path: Path, flags: int) -> int:
        self._fails("open")
        inode = self.names.get(self._key(path))
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._changes("create")
            inode = _Inode()
            self._rename([(self._key(path), inode)])
        fd = self.next_fd
        self.next_fd += 1
        self.fds[fd] = inode
        return fd

    def close(self, fd: int) -> None:
        inode = self.fds.pop(fd, None)  # gone already when it was opened before a restart
        if inode is not None and fd in self.locked:
            self.locked.discard(fd)

    def size(self, fd: int) -> int:
        return len(self.fds[fd].data)

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        inode = self.fds[fd]
        data = b"".join(buffers)
        self.calls.append("pwritev")
        self.operations += 1
        if self.operations == self.dies_at:
            # Part of it may have reached the page cache, and from there the disk.
            self._store(inode, data[: len(data) // 2], offset)
            raise PowerLoss
        if "pwritev" in self.errors:
            # As on a file system that takes new space for each write.
            self._store(inode, data[: len(data) // 2], offset)
            self._fails("pwritev")
        self._store(inode, data, offset)
        return len(data)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        count = self.pwritev(fd, buffers, offset)
        self.fdatasync(fd)
        return count

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        self._fails("preadv")
        data = self.fds[fd].data
        done = 0
        for buffer in buffers:
            part = data[offset : offset + buffer.nbytes]
            buffer[: len(part)] = part
            done += len(part)
            offset += len(part)
        self.reads += 1
        self.largest_read = max(self.largest_read, done)
        return done

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", self.fds[fd])

    def fsync(self, fd: int) -> None:
        self._sync("fsync", self.fds[fd])

    def fsync_dir(self, path: Path) -> None:
        self._changes("fsync_dir")
        if path == self.root.parent:
            return
        folder = "" if path == self.root else self._key(path)
        waiting = []
        for changes in self.unsynced:
            # A rename between two folders is one change: syncing either makes it durable.
            if any(name.rpartition("/")[0] == folder for name, _ in changes):
                _apply(self.durable_names, changes)
            else:
                waiting.append(changes)
        self.unsynced = waiting

    def fallocate(self, fd: int, length: int) -> None:
        self._changes("fallocate")
        inode = self.fds[fd]
        more = length - len(inode.data)
        if more > 0:
            self._grow(more)
            inode.data.extend(bytes(more))

    def truncate(self, fd: int, length: int) -> None:
        self._changes("truncate")
        inode = self.fds[fd]
        del inode.data[length:]
        inode.data.extend(bytes(length - len(inode.data)))

    def rename(self, source: Path, target: Path) -> None:
        self._changes("rename")
        old, new = self._key(source), self._key(target)
        self._rename([(new, self.names[old]), (old, None)])

    def unlink(self, path: Path) -> None:
        self._changes("unlink")
        if self._key(path) not in self.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._rename([(self._key(path), None)])

    def lock(self, fd: int) -> bool:
        if any(self.fds[other] is self.fds[fd] for other in self.locked):
            return False
        self.locked.add(fd)
        return True

    def _sync(self, name: str, inode: _Inode) -> None:
        if name in self.errors:
            # As in Linux: the pages count as clean from now on, but never reached the disk.
            inode.dirty.clear()
        self._changes(name)
        inode.sync()

    def _rename(self, changes: list[_Change]) -> None:
        _apply(self.names, changes)
        self.unsynced.append(changes)

    def _store(self, inode: _Inode, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(inode.data):
            self._grow(end - len(inode.data))
            inode.data.extend(bytes(end - len(inode.data)))
        inode.data[offset:end] = data
        inode.dirty.update(range(offset // SECTOR, (end + SECTOR - 1) // SECTOR))

    def _grow(self, count: int) -> None:
        if sum(len(inode.data) for inode in self.names.values()) + count > self.capacity:
            raise OSError(errno.ENOSPC, "no space left on device")


def _apply(names: dict[str, _Inode], changes: list[_Change]) -> None:
    # A rename is atomic: both names change, or neither.
    for name, inode in changes:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
