"""The directory store's operations on one object, as blocking calls.

`replace` and `delete` hold an exclusive kernel lock on a lock file beside the object while they
compare and change it. The lock is only ever tried, never waited for: who does not get it comes
back later, so that no thread hangs on a process that is stopped.
"""

from __future__ import annotations

import os
import random
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager

from hf_agent.clock import Clock
from hf_agent.store.base import (
    ObjectData,
    ObjectInfo,
    StoreConflict,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.buffers import Views, total_bytes
from hf_agent.store.directory_etag import SMALL_BYTES, content_etag, file_etag
from hf_agent.store.directory_keys import key_path, lock_path
from hf_agent.store.directory_list import directories
from hf_agent.store.disk import Disk, parent_of
from hf_agent.store.durable import DurableTree, create_file, replace_file, sweep_temporaries
from hf_agent.store.observer import coded
from hf_agent.store.os_errors import store_error
from hf_agent.store.ranges import ByteRange

__all__ = ["Busy", "ObjectFiles", "os_errors_mapped"]

_LEFTOVER_SECONDS = 3600.0  # no write takes this long: an older temporary file has no writer
_MAX_SWEPT = 65_536  # directories remembered as swept
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # never wait for a pipe's other end


class Busy(Exception):
    """Somebody else is just changing the object: come back in a moment."""


class ObjectFiles:
    """Objects as files below `root`. Methods may run in several threads at once.

    All raise `StoreRetry` and `StoreRefused`; keys that can be no path are refused.
    """

    def __init__(self, root: str, *, clock: Clock, rng: random.Random, disk: Disk) -> None:
        self._root = root
        self._clock = clock
        self._rng = rng
        self._disk = disk
        self._tree = DurableTree(disk, root)
        self._swept: set[str] = set()

    def read(self, key: str, wanted: ByteRange, if_match: str | None) -> ObjectData:
        """A range of an object; size, etag and bytes are of the same version.

        Raises `StoreNotFound`, `StoreConflict`.
        """
        path = key_path(self._root, key)
        with os_errors_mapped("reading an object", path), self._opened(path, key) as (fd, stat):
            offset, length = wanted.resolve(stat.st_size)
            if stat.st_size <= SMALL_BYTES:
                content = self._pread(fd, stat.st_size, 0, path)
                etag = content_etag([memoryview(content)])
                data = content[offset : offset + length]
            else:
                etag = file_etag(stat)
                data = self._pread(fd, length, offset, path)
        if if_match is not None and if_match != etag:
            raise _changed(key, if_match, etag)
        info = ObjectInfo(key, stat.st_size, etag, stat.st_mtime, self._clock.time(), {})
        return ObjectData(info, data, offset)

    def create(self, key: str, views: Views) -> str:
        """Write a new object; returns its etag. Raises `StoreConflict`."""
        path = key_path(self._root, key)
        large = total_bytes(views) > SMALL_BYTES
        with os_errors_mapped("creating an object", path):
            try:
                stat = create_file(self._tree, path, views, rng=self._rng, scatter=large)
            except FileExistsError as error:
                if self._is_directory(path):
                    raise coded(
                        StoreRefused(
                            "the key is a directory of other keys; use another key, or remove what "
                            f"lies below it path={path!r}"
                        ),
                        "EISDIR",
                    ) from error
                raise coded(StoreConflict(f"the object exists key={key!r}"), "EEXIST") from error
        self._sweep_once(parent_of(path))
        return file_etag(stat) if large else content_etag(views)

    def replace(self, key: str, views: Views, etag: str) -> str:
        """Replace an object whose etag is `etag`; returns the new one.

        Raises `StoreConflict`, `StoreNotFound`, `Busy`.
        """
        path = key_path(self._root, key)
        large = total_bytes(views) > SMALL_BYTES
        with os_errors_mapped("replacing an object", path), self._locked(path, key):
            try:
                current = self.read(key, ByteRange(0, 0), None).info.etag
            except StoreNotFound:
                self._disk.unlink(lock_path(path))  # as in delete: nothing is left to lock
                raise
            if current != etag:
                # Whoever finds their own bytes there may rely on them: make them durable first.
                self._tree.sync(parent_of(path))
                raise _changed(key, etag, current)
            stat = replace_file(self._tree, path, views, rng=self._rng, scatter=large)
        return file_etag(stat) if large else content_etag(views)

    def delete(self, key: str) -> None:
        """Remove an object, and the directories that it leaves empty. Raises `Busy`."""
        path = key_path(self._root, key)
        with os_errors_mapped("deleting an object", path):
            try:
                with self._locked(path, key):
                    self._disk.unlink(path)
                    # Safe only as the holder of the lock, and last: see _locked.
                    self._disk.unlink(lock_path(path))
            except (StoreNotFound, FileNotFoundError):
                return
            self._tree.sync(parent_of(path))
        self._remove_empty(parent_of(path))

    def sweep(self, prefix: str, before: float) -> int:
        """Remove temporary files last modified before `before` (Unix seconds); returns how many.

        In the directories in which every object has the prefix.
        """
        with os_errors_mapped("looking for temporary files", self._root):
            return sum(
                sweep_temporaries(self._disk, directory, before=before)
                for directory in directories(self._disk, self._root, prefix)
            )

    @contextmanager
    def _opened(self, path: str, key: str) -> Iterator[tuple[int, os.stat_result]]:
        """An object's file, open for reading. Raises `StoreNotFound`."""
        try:
            fd = self._disk.open(path, _READ_FLAGS)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _not_found(key) from error
        try:
            stat = self._disk.fstat(fd)
            if not modes.S_ISREG(stat.st_mode):
                raise _not_found(key)
            yield fd, stat
        finally:
            self._disk.close(fd)

    @contextmanager
    def _locked(self, path: str, key: str) -> Iterator[None]:
        """Hold the object's lock. Raises `Busy`, `StoreNotFound`.

        `delete` removes the lock file, so a lock only counts while its file still has its name:
        otherwise somebody else may hold the lock of a newer file at the same time.
        """
        try:
            if not modes.S_ISREG(self._disk.stat(path).st_mode):
                raise _not_found(key)
            fd = self._disk.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise _not_found(key) from error
        try:
            if not self._disk.try_flock(fd):
                raise Busy
            mine = self._disk.fstat(fd)
            try:
                named = self._disk.stat(lock_path(path))
            except FileNotFoundError:
                raise Busy from None
            if (mine.st_dev, mine.st_ino) != (named.st_dev, named.st_ino):
                raise Busy
            yield
        finally:
            self._disk.close(fd)

    def _pread(self, fd: int, nbytes: int, offset: int, path: str) -> bytes:
        """Exactly `nbytes` bytes; one allocation when the system gives all of them at once."""
        parts = []
        while nbytes:
            part = self._disk.pread(fd, nbytes, offset)
            if not part:
                raise coded(
                    StoreRetry(f"the object shrank while it was read path={path!r}"), "truncated"
                )
            parts.append(part)
            nbytes -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _is_directory(self, path: str) -> bool:
        try:
            return modes.S_ISDIR(self._disk.stat(path).st_mode)
        except FileNotFoundError:
            return False

    def _sweep_once(self, directory: str) -> None:
        """Remove what a dead process left behind, at the first write into a directory."""
        if directory in self._swept:
            return
        if len(self._swept) >= _MAX_SWEPT:
            self._swept.clear()
        self._swept.add(directory)
        sweep_temporaries(self._disk, directory, before=self._clock.time() - _LEFTOVER_SECONDS)

    def _remove_empty(self, directory: str) -> None:
        """Remove empty directories upwards, below the root; one in use stays, in silence."""
        while directory != self._root:
            try:
                self._disk.rmdir(directory)
            except OSError:
                return
            self._tree.forget(directory)
            directory = parent_of(directory)


@contextmanager
def os_errors_mapped(operation: str, path: str) -> Iterator[None]:
    """Turn any `OSError` of the body into the store error that it means."""
    try:
        yield
    except OSError as error:
        raise store_error(operation, path, error) from error


def _not_found(key: str) -> StoreNotFound:
    error = StoreNotFound(f"no such object key={key!r}")
    error.code = "ENOENT"
    return error


def _changed(key: str, expected: str, found: str) -> StoreConflict:
    error = StoreConflict(f"the object has changed key={key!r} expected={expected} found={found}")
    error.code = "PreconditionFailed"
    return error
