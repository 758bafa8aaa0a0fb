"""The simulated disk: what is written is kept apart from what is synced. Rules: README.md.

A `Disk` belongs to a machine and outlives its processes; each process sees it through a
`ProcessDisk`, which takes time for every call, and at which the process, or the machine, may die.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hf_agent.wal.disk import Buffer
from simulation.kernel import Kernel, Process

__all__ = ["PAGE", "ROOT", "Disk", "ProcessDisk"]

ROOT = Path("/wal")
PAGE = 4096
SECTOR = 512


@dataclass(eq=False)
class Inode:
    """A file: as the page cache has it, and as the disk has it."""

    data: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: dict[int, list[bytes]] = field(default_factory=dict)
    """What each page was after each write since the last sync: any of it may be on the disk."""
    sizes: list[int] = field(default_factory=list)
    """The sizes that the file had since the last sync."""
    lock: Process | None = None

    def write(self, data: bytes | memoryview, offset: int) -> None:
        end = offset + len(data)
        self.data[offset:end] = data
        for page in range(offset // PAGE, (end + PAGE - 1) // PAGE):
            image = bytes(self.data[page * PAGE : (page + 1) * PAGE])
            self.dirty.setdefault(page, []).append(image)

    def resize(self, size: int) -> None:
        del self.data[size:]
        self.data.extend(bytes(size - len(self.data)))
        self.sizes.append(size)
        for page in [page for page in self.dirty if page * PAGE >= size]:
            del self.dirty[page]

    def sync_page(self, page: int, versions: int) -> None:
        """Have the disk hold the page as it was after so many writes since the last sync."""
        images = self.dirty.get(page)
        if images is None or len(images) < versions:
            return  # truncated meanwhile
        image = images[versions - 1]
        self.durable[page * PAGE : page * PAGE + len(image)] = image
        del images[:versions]
        if not images:
            del self.dirty[page]

    def sync_size(self, count: int) -> None:
        if count:
            size = self.sizes[count - 1]
            del self.sizes[:count]
            del self.durable[size:]
            self.durable.extend(bytes(size - len(self.durable)))

    def lose_power(self, rng: random.Random) -> None:
        size = rng.choice([len(self.durable), *self.sizes])
        left = bytearray(self.durable[:size].ljust(size, b"\0"))
        share = rng.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        for page, images in sorted(self.dirty.items()):
            if rng.random() >= share:
                continue
            image = rng.choice(images) if rng.random() < 0.3 else images[-1]
            start = page * PAGE
            torn = rng.random() < 0.3
            for at in range(0, len(image), SECTOR):
                if not torn or rng.random() < 0.5:
                    part = image[at : at + SECTOR][: max(0, size - start - at)]
                    left[start + at : start + at + len(part)] = part
        self.data, self.durable = left, bytearray(left)
        self.dirty.clear()
        self.sizes.clear()


_Change = tuple[tuple[str, Inode | None], ...]
"""Names and what they name from then on; all of it or nothing, as a rename is."""


class Disk:
    """One directory, `ROOT`, on one machine."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.unsynced: list[_Change] = []
        self.made = False
        self.made_durable = False
        self.capacity = 1 << 40
        """Bytes that all files may have together."""
        self.writes_need_space = False
        """Whether a write within a file can run out of space, as where writes take new blocks."""
        self.full = False
        """Whether there is no space, with `writes_need_space`."""
        self.slow = 0.0
        """Chance of a call that takes up to seconds."""
        self.short_writes = 0.0
        self.piece_bytes = kernel.rng.choice((1 << 10, 8 << 10, 256 << 10))
        """Chance of a write that writes less than asked."""
        self.errors: dict[str, int] = {}
        """Calls that fail, by name, and with which errno; each once."""
        self.calls_left = 0
        """Calls that change something until `on_last_call` is made; 0: it is not."""
        self.on_last_call: Callable[[], None] = lambda: None
        self.on_freed: Callable[[str, bytes], None] = lambda name, data: None
        """Told of a log file that loses its name, and what it holds."""

    def lose_power(self) -> None:
        """What the next start finds: decided for each change by itself, within the rules."""
        rng = self.kernel.rng
        names = dict(self.durable_names)
        if rng.random() < 0.5:  # a journal: changes reach the disk in their order
            kept = self.unsynced[: rng.randrange(len(self.unsynced) + 1)]
        else:
            kept = [change for change in self.unsynced if rng.random() < 0.5]
        for change in kept:
            _apply(names, change)
        if self.made and not self.made_durable and rng.random() < 0.5:
            self.made = False
            names = {}
        for inode in {id(inode): inode for inode in names.values()}.values():
            inode.lose_power(rng)
        self.names = names
        self.durable_names = dict(names)
        self.made_durable = self.made
        self.unsynced.clear()
        self.errors.clear()
        self.calls_left = 0

    def durable_images(self) -> list[bytearray]:
        """What a power loss at this moment would certainly leave of the log's files."""
        return [
            inode.durable for name, inode in self.durable_names.items() if name.endswith(".wal")
        ]

    def change_names(self, change: _Change) -> None:
        before = dict(self.names)
        _apply(self.names, change)
        self.unsynced.append(change)
        for name, _ in change:
            inode = before.get(name)
            if name.endswith(".wal") and inode is not None and name not in self.names:
                self.on_freed(name, bytes(inode.data))

    def grow(self, count: int) -> None:
        used = sum(len(inode.data) for inode in self.names.values())
        if used + count > self.capacity or (self.writes_need_space and self.full):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fails(self, name: str) -> None:
        code = self.errors.pop(name, None)
        if code is not None:
            self.kernel.trace.event(self.kernel.now, "disk-error", name, code)
            raise OSError(code, os.strerror(code))


class ProcessDisk:
    """Implements `hf_agent.wal.Disk` for one process."""

    def __init__(self, disk: Disk, process: Process) -> None:
        self._disk = disk
        self._process = process
        self._kernel = disk.kernel
        self._fds: dict[int, Inode] = {}
        self._next = 3
        process.on_death.append(self._release)

    def _release(self) -> None:
        for inode in self._fds.values():
            if inode.lock is self._process:
                inode.lock = None

    def _take(self, share: float = 1.0) -> None:
        """The call takes some time, during which the process may die."""
        rng, disk = self._kernel.rng, self._disk
        seconds = rng.random() * 2e-4
        if disk.slow and rng.random() < disk.slow:
            seconds = rng.choice((0.01, 0.1, 3.0)) * rng.random()
        self._kernel.block(seconds * share)

    def _changes(self, name: str, *details: object) -> None:
        self._process.stop_if_dead()
        disk, kernel = self._disk, self._kernel
        kernel.trace.event(kernel.now, name, self._process.name, *details)
        if disk.calls_left:
            disk.calls_left -= 1
            if not disk.calls_left:
                # Before the call has its effect, in the middle of it, or right after.
                delay = kernel.rng.choice((0.0, 5e-5, 1e-4, 2e-4))
                kernel.after(delay, disk.on_last_call)
        self._take(0.5)
        disk.fails(name)

    # -- names -----------------------------------------------------------------------------

    def mkdir(self, path: Path) -> None:
        self._changes("mkdir")
        if self._disk.made:
            raise FileExistsError(errno.EEXIST, "exists", str(path))
        self._disk.made = True
        self._take()

    def is_dir(self, path: Path) -> bool:
        return self._disk.made

    def listdir(self, path: Path) -> list[str]:
        return list(self._disk.names)

    def open(self, path: Path, flags: int) -> int:
        self._process.stop_if_dead()
        disk = self._disk
        inode = disk.names.get(path.name)
        if inode is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
            self._kernel.trace.event(self._kernel.now, "create-file", path.name)
            inode = Inode()
            disk.change_names(((path.name, inode),))
        fd, self._next = self._next, self._next + 1
        self._fds[fd] = inode
        return fd

    def close(self, fd: int) -> None:
        inode = self._fds.pop(fd, None)
        if inode is not None and inode.lock is self._process and inode not in self._fds.values():
            inode.lock = None

    def rename(self, source: Path, target: Path) -> None:
        self._changes("rename", source.name, target.name)
        inode = self._disk.names[source.name]
        self._disk.change_names(((target.name, inode), (source.name, None)))
        self._take()

    def unlink(self, path: Path) -> None:
        self._changes("unlink", path.name)
        if path.name not in self._disk.names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._disk.change_names(((path.name, None),))
        self._take()

    def rmdir(self, path: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "only repairs remove directories", str(path))

    def fsync_dir(self, path: Path) -> None:
        disk = self._disk
        names, count = dict(disk.names), len(disk.unsynced)
        self._changes("fsync_dir", path.name)
        if path == ROOT:
            disk.durable_names = names
            del disk.unsynced[:count]
        else:
            disk.made_durable = True
        self._take()

    def lock(self, fd: int) -> bool:
        self._process.stop_if_dead()
        inode = self._fds[fd]
        if inode.lock is not None:
            return False
        inode.lock = self._process
        return True

    # -- contents --------------------------------------------------------------------------

    def size(self, fd: int) -> int:
        return len(self._fds[fd].data)

    @property
    def piece_bytes(self) -> int:
        return self._disk.piece_bytes

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        inode = self._fds[fd]
        data = b"".join(buffers)
        if inode.lock is self._process:
            # The lock file, which holds a number that is this run's own: nothing may hang on it.
            inode.data[offset : offset + len(data)] = data
            return len(data)
        rng = self._kernel.rng
        if self._disk.short_writes and len(data) > 1 and rng.random() < self._disk.short_writes:
            self._kernel.trace.count("short-write")
            data = data[: rng.randrange(1, len(data))]
        self._changes("pwritev", len(data), offset)
        more = offset + len(data) - len(inode.data)
        half = rng.randrange(len(data) + 1)
        if more > 0 or self._disk.full:
            try:
                self._disk.grow(max(0, more))
            except OSError:
                inode.write(data[: min(half, len(inode.data) - offset)], offset)
                raise
        if more > 0:
            inode.resize(offset + len(data))
        inode.write(data[:half], offset)
        self._take(0.25)
        self._process.stop_if_dead()
        inode.write(data[half:], offset + half)
        self._take(0.25)
        return len(data)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        count = self.pwritev(fd, buffers, offset)
        self._sync("fdatasync", self._fds[fd])
        return count

    def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        self._process.stop_if_dead()
        self._take()
        data = self._fds[fd].data
        done = 0
        for buffer in buffers:
            part = data[offset : offset + buffer.nbytes]
            buffer[: len(part)] = part
            done += len(part)
            offset += len(part)
        return done

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", self._fds[fd])

    def fsync(self, fd: int) -> None:
        self._sync("fsync", self._fds[fd])

    def _sync(self, name: str, inode: Inode) -> None:
        pages = {page: len(images) for page, images in inode.dirty.items()}
        sizes = len(inode.sizes)
        try:
            self._changes(name, len(pages))
        except OSError:
            # As in Linux: the pages count as clean from now on, but never reached the disk.
            inode.dirty.clear()
            raise
        inode.sync_size(sizes)
        order = list(pages)
        self._kernel.rng.shuffle(order)
        half = self._kernel.rng.randrange(len(order) + 1)
        for page in order[:half]:
            inode.sync_page(page, pages[page])
        self._take(0.25)
        self._process.stop_if_dead()
        for page in order[half:]:
            inode.sync_page(page, pages[page])
        self._take(0.25)

    def fallocate(self, fd: int, length: int) -> None:
        self._changes("fallocate", length)
        inode = self._fds[fd]
        more = length - len(inode.data)
        if more > 0:
            self._disk.grow(more)
            inode.resize(length)
        self._take()

    def truncate(self, fd: int, length: int) -> None:
        self._changes("truncate", length)
        self._fds[fd].resize(length)
        self._take()


def _apply(names: dict[str, Inode], change: _Change) -> None:
    for name, inode in change:
        if inode is None:
            names.pop(name, None)
        else:
            names[name] = inode
