"""Listing below a directory with the meaning that S3 gives to prefix and delimiter.

Directories are read as a stream and never sorted or held as a whole: a directory of a million
objects costs no more memory than one batch.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from threading import Lock

from hf_agent.store.directory_keys import is_reserved, prefix_directory
from hf_agent.store.disk import DirectoryEntry, Disk

__all__ = ["Batches", "Found", "directories", "walk"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is an object."""

    key: str
    size: int
    mtime: float


def walk(disk: Disk, root: str, prefix: str, delimiter: str) -> Iterator[Found | str]:
    """Objects with the prefix; with delimiter "/", a `str` for each further level instead.

    Objects and directories that come or go meanwhile may or may not be met. Symbolic links to
    files are objects, links to directories are not followed. Raises `OSError`, also midway.
    """
    if place := prefix_directory(root, prefix):
        directory, key, start = place
        yield from _walk(disk, directory, key, start, delimiter)


def directories(disk: Disk, root: str, prefix: str) -> Iterator[str]:
    """Directories in which every object has the prefix. Links are not followed.

    Those that come or go meanwhile may or may not be met. Raises `OSError`, also midway.
    """
    if place := prefix_directory(root, prefix):
        directory, _, start = place
        if not start:
            yield directory
        yield from _directories(disk, directory, start)


class Batches:
    """An iterator taken in batches by one thread at a time; closing waits for the batch."""

    def __init__(self, items: Iterator[Found | str], size: int) -> None:
        self._items = items
        self._size = size
        self._lock = Lock()

    def take(self) -> list[Found | str]:
        """The next batch; empty at the end."""
        with self._lock:
            return list(islice(self._items, self._size))

    def close(self) -> None:
        """Close the directories that are still open."""
        with self._lock:
            close = getattr(self._items, "close", None)
            if close:
                close()


def _walk(
    disk: Disk, directory: str, key: str, start: str, delimiter: str
) -> Iterator[Found | str]:
    try:
        scan = disk.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with scan as entries:
        for entry in entries:
            name = entry.name
            if is_reserved(name) or not name.startswith(start):
                continue
            if not entry.is_dir(follow_symlinks=False):
                if found := _found(entry, key + name):
                    yield found
            elif not delimiter:
                yield from _walk(disk, f"{directory}/{name}", f"{key}{name}/", "", "")
            elif _holds_objects(disk, f"{directory}/{name}"):
                yield f"{key}{name}/"


def _directories(disk: Disk, directory: str, start: str) -> Iterator[str]:
    try:
        scan = disk.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    with scan as entries:
        for entry in entries:
            if entry.name.startswith(start) and entry.is_dir(follow_symlinks=False):
                below = f"{directory}/{entry.name}"
                yield below
                yield from _directories(disk, below, "")


def _found(entry: DirectoryEntry, key: str) -> Found | None:
    try:
        stat = entry.stat()
    except FileNotFoundError:
        return None  # removed since it was read from the directory
    if not modes.S_ISREG(stat.st_mode):
        return None
    return Found(key, stat.st_size, stat.st_mtime)


def _holds_objects(disk: Disk, directory: str) -> bool:
    """Whether any object lies below; an empty directory is nothing that a store knows."""
    items = _walk(disk, directory, "", "", "")
    return next(items, None) is not None
