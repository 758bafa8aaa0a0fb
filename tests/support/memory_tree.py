"""A file system in memory for the directory store, which loses what was not synced.

What POSIX promises and ext4 and xfs do: the content of a file is safe from the return of its
`fsync`, a name from the return of the `fsync` of its directory. Until then a power failure keeps
or loses each page of a file and each change of a directory (made, linked, renamed, removed) by
itself; a rename happens as a whole or not at all.
"""

from __future__ import annotations

import errno
import os
import random
import stat as modes
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from hf_agent.store.disk import parent_of

__all__ = ["MemoryTree", "PowerLoss"]

PAGE = 4096


class PowerLoss(BaseException):
    """The machine stops here. No `Exception`: nothing may handle it."""


@dataclass(eq=False)
class _File:
    ino: int
    data: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    mtime: int = 0
    nlink: int = 0

    def lose(self, rng: random.Random) -> None:
        """Keep the size of now or that of the last sync, and some of the pages."""
        size = rng.choice((len(self.data), len(self.durable)))
        kept = bytearray(self.durable[:size].ljust(size, b"\0"))
        for start in range(0, size, PAGE):
            if rng.random() < 0.5:
                page = self.data[start : min(start + PAGE, size)]
                kept[start : start + len(page)] = page
        self.data, self.durable = kept, bytes(kept)


@dataclass(eq=False)
class _Folder:
    ino: int
    names: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)
    changes: list[list[tuple[str, _Node | None]]] = field(default_factory=list)
    mtime: int = 0
    nlink: int = 2

    def change(self, *names: tuple[str, _Node | None]) -> None:
        """Give names to something, or (None) to nothing; all of it at once."""
        self.changes.append(list(names))
        _apply(self.names, names)

    def sync(self) -> None:
        self.durable, self.changes = dict(self.names), []

    def lose(self, rng: random.Random) -> None:
        names = dict(self.durable)
        for changes in self.changes:
            if rng.random() < 0.5:
                _apply(names, changes)
        self.names = names
        self.sync()


_Node = _File | _Folder


def _apply(names: dict[str, _Node], changes: Sequence[tuple[str, _Node | None]]) -> None:
    for name, node in changes:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    node: _Node

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return isinstance(self.node, _Folder)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return isinstance(self.node, _File)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return _status(self.node)


@dataclass(slots=True)
class _Open:
    node: _Node
    position: int = 0


class MemoryTree:
    """Implements `hf_agent.store.disk.Disk`; paths are absolute. Not for several threads."""

    EPOCH = 1_700_000_000.0
    """The time of day, in seconds: its files are stamped a moment later."""

    def __init__(self) -> None:
        self._inodes = 1
        self.top = _Folder(1)
        self._open: dict[int, _Open] = {}
        self._next_fd = 3
        self._locks: dict[int, _Node] = {}
        self._ticks = int(self.EPOCH) * 10**9
        self.calls = 0
        """Of all kinds, so far."""
        self.before: Callable[[int, str], None] = lambda number, name: None
        """Called ahead of each call, with its number from 1 on; may raise `PowerLoss`."""

    # Faults.

    def power_loss(self, rng: random.Random) -> None:
        """What the next start finds."""
        self._lose(self.top, rng)
        self.process_death()

    def process_death(self) -> None:
        """Every process ends: what it had open is closed, its locks are free."""
        self._open.clear()
        self._locks.clear()
        self.before = lambda number, name: None

    def _lose(self, folder: _Folder, rng: random.Random) -> None:
        folder.lose(rng)
        for node in folder.names.values():
            if isinstance(node, _Folder):
                self._lose(node, rng)
            else:
                node.lose(rng)

    # The protocol.

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        self._call("open")
        folder, name = self._parent(path)
        node = folder.names.get(name) if name else folder
        if node is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT, path)
            node = self._new_file()
            folder.change((name, node))
        elif flags & os.O_EXCL:
            raise _error(errno.EEXIST, path)
        if flags & os.O_DIRECTORY and not isinstance(node, _Folder):
            raise _error(errno.ENOTDIR, path)
        fd, self._next_fd = self._next_fd, self._next_fd + 1
        self._open[fd] = _Open(node)
        return fd

    def close(self, fd: int) -> None:
        self._call("close")
        self._open.pop(fd, None)
        self._locks.pop(fd, None)

    def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
        self._call("writev")
        opened = self._open[fd]
        assert isinstance(opened.node, _File)
        data = b"".join(buffers)
        opened.node.data[opened.position : opened.position + len(data)] = data
        opened.node.mtime = self._tick()
        opened.position += len(data)
        return len(data)

    def pread(self, fd: int, nbytes: int, offset: int) -> bytes:
        self._call("pread")
        node = self._open[fd].node
        assert isinstance(node, _File)
        return bytes(node.data[offset : offset + nbytes])

    def fsync(self, fd: int) -> None:
        self._call("fsync")
        node = self._open[fd].node
        if isinstance(node, _Folder):
            node.sync()
        else:
            node.durable = bytes(node.data)

    def fstat(self, fd: int) -> os.stat_result:
        self._call("fstat")
        return _status(self._open[fd].node)

    def stat(self, path: str) -> os.stat_result:
        self._call("stat")
        return _status(self._node(path))

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        self._call("set_mtime")
        self._open[fd].node.mtime = nanoseconds

    def link(self, source: str, target: str) -> None:
        self._call("link")
        node = self._node(source)
        folder, name = self._parent(target)
        if name in folder.names:
            raise _error(errno.EEXIST, target)
        folder.change((name, node))
        node.nlink += 1

    def rename(self, source: str, target: str) -> None:
        self._call("rename")
        (folder, old), (other, new) = self._parent(source), self._parent(target)
        assert folder is other, "the store renames within a directory"
        folder.change((new, self._node(source)), (old, None))

    def unlink(self, path: str) -> None:
        self._call("unlink")
        node = self._node(path)
        if isinstance(node, _Folder):
            raise _error(errno.EISDIR, path)
        folder, name = self._parent(path)
        folder.change((name, None))
        node.nlink -= 1

    def mkdir(self, path: str) -> None:
        self._call("mkdir")
        folder, name = self._parent(path)
        if name in folder.names:
            raise _error(errno.EEXIST, path)
        self._inodes += 1
        folder.change((name, _Folder(self._inodes)))

    def rmdir(self, path: str) -> None:
        self._call("rmdir")
        node = self._node(path)
        if not isinstance(node, _Folder):
            raise _error(errno.ENOTDIR, path)
        if node.names:
            raise _error(errno.ENOTEMPTY, path)
        folder, name = self._parent(path)
        folder.change((name, None))

    def try_flock(self, fd: int) -> bool:
        self._call("try_flock")
        node = self._open[fd].node
        if any(node is held for held in self._locks.values()):
            return False
        self._locks[fd] = node
        return True

    def scandir(self, path: str) -> AbstractContextManager[Iterator[_Entry]]:
        self._call("scandir")
        node = self._node(path)
        if not isinstance(node, _Folder):
            raise _error(errno.ENOTDIR, path)
        return nullcontext(iter([_Entry(name, each) for name, each in node.names.items()]))

    def _call(self, name: str) -> None:
        self.calls += 1
        self.before(self.calls, name)

    def _node(self, path: str) -> _Node:
        node: _Node = self.top
        for name in path.strip("/").split("/") if path.strip("/") else ():
            if not isinstance(node, _Folder):
                raise _error(errno.ENOTDIR, path)
            if name not in node.names:
                raise _error(errno.ENOENT, path)
            node = node.names[name]
        return node

    def _parent(self, path: str) -> tuple[_Folder, str]:
        folder = self._node(parent_of(path))
        if not isinstance(folder, _Folder):
            raise _error(errno.ENOTDIR, path)
        return folder, path.rpartition("/")[2]

    def _new_file(self) -> _File:
        self._inodes += 1
        return _File(self._inodes, mtime=self._tick(), nlink=1)

    def _tick(self) -> int:
        self._ticks += 1000
        return self._ticks


def _status(node: _Node) -> os.stat_result:
    mode = modes.S_IFDIR | 0o755 if isinstance(node, _Folder) else modes.S_IFREG | 0o644
    size = 0 if isinstance(node, _Folder) else len(node.data)
    seconds = node.mtime // 10**9
    times = {"st_mtime_ns": node.mtime, "st_mtime": node.mtime / 1e9}
    ten = (mode, node.ino, 1, node.nlink, 0, 0, size, seconds, seconds, seconds)
    return os.stat_result(ten, times)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
