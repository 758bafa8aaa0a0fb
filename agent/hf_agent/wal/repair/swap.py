"""Putting the new log in the place of the damaged one, so that a crash loses neither.

While the marker stands the log refuses to open, and the next repair goes on with the swap. The
new files have higher sequence numbers than the old ones, so it is always known which is which.
"""

from __future__ import annotations

import os
from pathlib import Path

from hf_agent.wal.disk import Disk, preadv_all, pwritev_all
from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.file_head import REPAIR_MARKER, file_sequence
from hf_agent.wal.files import sync
from hf_agent.wal.handle import Handle

__all__ = ["NEW_FOLDER", "begin_swap", "finish_swap", "is_interrupted", "remove_folder"]

NEW_FOLDER = "repair"
"""Where the new log is made, below the directory of the damaged one."""

_MAX_MARKER_BYTES = 4096


def is_interrupted(disk: Disk, directory: Path) -> bool:
    """Whether a swap was begun and not finished."""
    return REPAIR_MARKER in disk.listdir(directory)


def begin_swap(disk: Disk, directory: Path, last_sequence: int, copy: str) -> None:
    """From here on the new log, whole and synced in its folder, is the log.

    `last_sequence` is the highest of a damaged file; those go to the folder `copy`.
    """
    temporary = directory / f"{REPAIR_MARKER}.tmp"
    text = f"{last_sequence}\n{copy}\n".encode()
    handle = Handle(disk, disk.open(temporary, os.O_RDWR | os.O_CREAT))
    try:
        disk.truncate(handle.fd, 0)
        pwritev_all(disk, handle.fd, [text], 0)
        sync(disk.fsync, handle.fd)
    finally:
        handle.close()
    disk.rename(temporary, directory / REPAIR_MARKER)
    sync(disk.fsync_dir, directory)


def finish_swap(disk: Disk, directory: Path) -> Path:
    """Do what is left to do; returns where the damaged files are. May be begun again any time."""
    last_sequence, copy = _read_marker(disk, directory)
    target, new = directory / copy, directory / NEW_FOLDER
    if not disk.is_dir(target):
        disk.mkdir(target)
        sync(disk.fsync_dir, directory)
    for name in disk.listdir(directory):
        sequence = file_sequence(name)
        strange = sequence is None and name.endswith(".wal") and name != REPAIR_MARKER
        if strange or (sequence is not None and sequence <= last_sequence):
            disk.rename(directory / name, target / name)
    sync(disk.fsync_dir, target)
    if disk.is_dir(new):
        for name in disk.listdir(new):
            if file_sequence(name) is not None:
                disk.rename(new / name, directory / name)
        sync(disk.fsync_dir, new)
    sync(disk.fsync_dir, directory)
    remove_folder(disk, new)
    disk.unlink(directory / REPAIR_MARKER)
    sync(disk.fsync_dir, directory)
    return target


def remove_folder(disk: Disk, folder: Path) -> None:
    """Remove a folder and the files in it, if it is there."""
    if not disk.is_dir(folder):
        return
    for name in disk.listdir(folder):
        disk.unlink(folder / name)
    disk.rmdir(folder)


def _read_marker(disk: Disk, directory: Path) -> tuple[int, str]:
    path = directory / REPAIR_MARKER
    handle = Handle(disk, disk.open(path, os.O_RDONLY))
    try:
        data = bytearray(min(_MAX_MARKER_BYTES, disk.size(handle.fd)))
        preadv_all(disk, handle.fd, [memoryview(data)], 0)
    finally:
        handle.close()
    lines = bytes(data).decode("ascii", "replace").splitlines()
    if len(lines) != 2 or not lines[0].isdigit() or "/" in lines[1]:
        raise WalCorrupt(path, 0, "the mark of an unfinished repair is damaged")
    return int(lines[0]), lines[1]
