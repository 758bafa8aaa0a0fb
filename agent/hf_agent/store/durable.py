"""Durable writes: what these functions have returned from survives the loss of power.

A file is written under a temporary name in its own directory, synced, given its name by `link`
(it must not exist yet) or `rename` (it may), and the directory is synced. New directories are
synced into their parents too. Nothing else in the directory store gives a file a name.

A temporary file outlives only a process that died while writing it; `sweep_temporaries` removes
such files by their age. Should it ever hit one that is still being written, the naming fails and
the write with it: nothing is damaged.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from hf_agent.store.buffers import Views
from hf_agent.store.disk import Disk, parent_of

__all__ = [
    "TEMPORARY_PREFIX",
    "DurableTree",
    "create_file",
    "replace_file",
    "sweep_temporaries",
    "write_all",
]

TEMPORARY_PREFIX = ".hf-tmp-"
"""How the name of every temporary file begins."""

_MAX_IOVECS = 1024  # IOV_MAX of Linux
_MAX_KNOWN = 65_536  # directories remembered as durable; forgetting one costs a few fsyncs
_ATTEMPTS = 5  # against a directory removed while empty, or a temporary name that is taken
_NANOS_PER_MILLI = 1_000_000


class DurableTree:
    """Creates and syncs directories at and below `root`, and remembers which are durable.

    Methods block and may be called from several threads.
    """

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk = disk
        self.root = root
        self._known: dict[str, tuple[int, int]] = {}

    def prepare(self, directory: str) -> None:
        """Make sure that `directory` exists, with its parents."""
        if directory not in self._known:
            self._make(directory)

    def forget(self, directory: str) -> None:
        """Take nothing for granted about `directory` any more: it was found missing."""
        self._known.pop(directory, None)

    def sync(self, directory: str) -> bool:
        """Sync the entries of `directory`, and its way up to the root where that is news.

        Returns whether it was news: the first sync of this directory by this object. It is
        synced upwards even when somebody else has created it: they may not have come to it yet.
        """
        identity = self._sync_one(directory)
        if self._known.get(directory) == identity:
            return False
        if directory != self.root:
            self.sync(parent_of(directory))
        else:
            try:
                self._sync_one(parent_of(directory))
            except PermissionError:
                pass  # the root stood there before us: its parent may not even be readable
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[directory] = identity
        return True

    def _make(self, directory: str) -> None:
        parent = parent_of(directory)
        try:
            self.disk.mkdir(directory)
        except FileExistsError:
            return
        except FileNotFoundError:
            if parent == directory:
                raise
            self._make(parent)
            try:
                self.disk.mkdir(directory)
            except FileExistsError:
                return
        self._sync_one(parent)

    def _sync_one(self, directory: str) -> tuple[int, int]:
        fd = self.disk.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.disk.fsync(fd)
            stat = self.disk.fstat(fd)
        finally:
            self.disk.close(fd)
        return stat.st_dev, stat.st_ino


def create_file(
    tree: DurableTree, path: str, views: Views, *, rng: random.Random, scatter: bool = False
) -> os.stat_result:
    """Write a new file durably; returns its status. Raises `FileExistsError`, `OSError`.

    Also the file that stands in the way is durable when `FileExistsError` is raised: a caller
    that finds its own bytes there may rely on them. With `scatter`, the part of the modification
    time below a millisecond is random, so that it tells versions apart.
    """
    disk, directory = tree.disk, parent_of(path)
    with _temporary(tree, directory, views, rng, scatter) as (fd, temporary):
        stat = disk.fstat(fd)
        try:
            disk.link(temporary, path)
        except FileExistsError:
            # A network file system may have done the link and lost the answer: ours, then.
            if disk.fstat(fd).st_nlink < 2:
                tree.sync(directory)
                raise
    tree.sync(directory)
    return stat


def replace_file(
    tree: DurableTree, path: str, views: Views, *, rng: random.Random, scatter: bool = False
) -> os.stat_result:
    """Put a file in the place of another one, durably and at once; returns its status."""
    disk, directory = tree.disk, parent_of(path)
    with _temporary(tree, directory, views, rng, scatter) as (fd, temporary):
        stat = disk.fstat(fd)
        disk.rename(temporary, path)
    tree.sync(directory)
    return stat


def write_all(disk: Disk, fd: int, views: Views) -> None:
    """Write all views one after the other at the file's position, however short the writes."""
    rest = list(views)
    index = 0
    while index < len(rest):
        written = disk.writev(fd, rest[index : index + _MAX_IOVECS])
        if written <= 0:
            raise OSError(errno.EIO, "a write made no progress")
        while index < len(rest) and written >= rest[index].nbytes:
            written -= rest[index].nbytes
            index += 1
        if written:
            rest[index] = rest[index][written:]


def sweep_temporaries(disk: Disk, directory: str, *, before: float, limit: int = 65_536) -> int:
    """Remove temporary files last modified before `before` (Unix seconds); returns how many.

    Looks at no more than `limit` entries of the directory, and gives up in silence where it may
    not look or remove: a leftover is untidy, not wrong.
    """
    removed = 0
    try:
        with disk.scandir(directory) as entries:
            for entry in islice(entries, limit):
                if entry.name.startswith(TEMPORARY_PREFIX) and entry.stat().st_mtime < before:
                    disk.unlink(f"{directory}/{entry.name}")
                    removed += 1
    except OSError:
        pass
    return removed


@contextmanager
def _temporary(
    tree: DurableTree, directory: str, views: Views, rng: random.Random, scatter: bool
) -> Iterator[tuple[int, str]]:
    """A synced temporary file with the bytes of `views`; its temporary name goes in the end."""
    disk = tree.disk
    fd, path = _open_temporary(tree, directory, rng)
    try:
        try:
            write_all(disk, fd, views)
            if scatter:
                stamp = disk.fstat(fd).st_mtime_ns
                disk.set_mtime(fd, stamp - stamp % _NANOS_PER_MILLI + rng.randrange(1_000_000))
            disk.fsync(fd)
            yield fd, path
        finally:
            disk.close(fd)
    finally:
        try:
            disk.unlink(path)
        except OSError:
            pass  # renamed away, or left to sweep_temporaries; the file's own fate is decided


def _open_temporary(tree: DurableTree, directory: str, rng: random.Random) -> tuple[int, str]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    attempts = 0
    while True:
        path = f"{directory}/{TEMPORARY_PREFIX}{rng.getrandbits(64):016x}"
        attempts += 1
        try:
            tree.prepare(directory)
            return tree.disk.open(path, flags), path
        except FileNotFoundError:
            tree.forget(directory)
            if attempts == _ATTEMPTS:
                raise
        except FileExistsError as error:
            if attempts == _ATTEMPTS:
                # Not as it is: it would be taken for an object in the way.
                raise OSError(errno.EAGAIN, "no free name for a temporary file") from error
