"""Making a directory ready: create it, lock it, recover it or begin a new log in it."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Disk
from hf_agent.wal.errors import WalUnusable, is_out_of_space
from hf_agent.wal.file_head import SPARE_NAME, file_name
from hf_agent.wal.files import FileSet, SyncFailure, sync
from hf_agent.wal.handle import Handle
from hf_agent.wal.lock import take_lock
from hf_agent.wal.log_file import OpenFile
from hf_agent.wal.record import file_seed
from hf_agent.wal.recovery import Recovered, Recovery, list_files, recover
from hf_agent.wal.rotation import needed_size, write_file_start
from hf_agent.wal.snapshot import pack_snapshot
from hf_agent.wal.state import LogState, Marks

__all__ = ["open_log"]

_ADVICE = {
    errno.ENOENT: "create the directory above it, or name another one",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "the file system is read-only: name a directory on another one",
    errno.ENOTDIR: "a part of the path is no directory: name another one",
    errno.ENOSPC: "make room on its disk",
    errno.EDQUOT: "raise the quota, or make room",
    errno.EIO: "the disk fails: look at the kernel's log",
}


def open_log(
    directory: Path, config: WalConfig, disk: Disk, clock: Clock, rng: random.Random
) -> tuple[Handle, FileSet, Recovery]:
    """Lock and recover the log in `directory`, or begin one; the lock is held by the handle.

    Raises `WalLocked`, `WalCorrupt`, `WalUnusable`.
    """
    started = clock.monotonic()
    lock: Handle | None = None
    try:
        _make_directory(disk, directory)
        lock = take_lock(disk, directory)
        found = _recover_or_begin(disk, directory, config, clock, rng)
        files = FileSet(
            disk,
            directory,
            config,
            wal_id=found.wal_id,
            state=found.state,
            sealed=found.sealed,
            open_file=found.open_file,
            next_batch=found.next_batch,
        )
        files.ensure_spare()
    except BaseException as error:
        if lock is not None:
            lock.close()  # not when the traceback goes: the caller may try again at once
        if isinstance(error, SyncFailure):
            raise WalUnusable(
                f"cannot use the write-ahead log, a sync failed: {error} path={directory}"
            ) from error
        if isinstance(error, OSError):
            raise _unusable(directory, error) from error
        raise
    return lock, files, _summary(files, found, clock.monotonic() - started)


def _unusable(directory: Path, error: OSError) -> WalUnusable:
    what = (error.strerror or str(error)).lower()
    advice = _ADVICE.get(error.errno or 0, "look at the file system and the kernel's log")
    return WalUnusable(
        f"cannot use the write-ahead log: {what}; {advice} path={error.filename or directory}"
    )


def _recover_or_begin(
    disk: Disk, directory: Path, config: WalConfig, clock: Clock, rng: random.Random
) -> Recovered:
    # What a crash left renamed, but not yet durably so, is settled before it is built upon.
    sync(disk.fsync_dir, directory)
    paths = list_files(disk, directory)
    # Only then are leftovers removed: a spare may be the file that was about to follow.
    found = recover(disk, paths, config) if paths else None
    _remove_leftovers(disk, directory, config)
    return found or _begin(disk, directory, config, clock, rng)


def _make_directory(disk: Disk, directory: Path) -> None:
    if disk.is_dir(directory):
        return
    try:
        disk.mkdir(directory)
    except FileExistsError as error:
        raise WalUnusable(
            "the write-ahead log's path is a file, not a directory; move it, or name another path "
            f"path={directory}"
        ) from error
    sync(disk.fsync_dir, directory.parent)


def _remove_leftovers(disk: Disk, directory: Path, config: WalConfig) -> None:
    # A whole spare is kept: on a full disk its space might not come back.
    for name in disk.listdir(directory):
        path = directory / name
        if name.endswith(".tmp") and not (
            name == SPARE_NAME and _size(disk, path) == config.file_bytes
        ):
            disk.unlink(path)


def _size(disk: Disk, path: Path) -> int:
    handle = Handle(disk, disk.open(path, os.O_RDONLY))
    return disk.size(handle.fd)


def _begin(
    disk: Disk, directory: Path, config: WalConfig, clock: Clock, rng: random.Random
) -> Recovered:
    """Create the first file of a new log, under a temporary name until it is whole."""
    wal_id = rng.randbytes(16)
    sequence = 1
    state = LogState(marks=Marks(config.max_marks, config.max_binary_marks))
    snapshot = pack_snapshot(state)
    size = needed_size(config.file_bytes, len(snapshot), 0)
    temporary = directory / SPARE_NAME
    handle = Handle(disk, disk.open(temporary, os.O_RDWR | os.O_CREAT))
    try:
        disk.fallocate(handle.fd, size)
        tail = write_file_start(
            disk,
            handle.fd,
            wal_id=wal_id,
            sequence=sequence,
            size=size,
            snapshot=snapshot,
            batch=1,
            time_ns=int(clock.time() * 1e9),
        )
    except OSError as error:
        if is_out_of_space(error):
            disk.unlink(temporary)
        raise
    path = directory / file_name(sequence)
    disk.rename(temporary, path)
    sync(disk.fsync_dir, directory)
    open_file = OpenFile(path, sequence, size, file_seed(wal_id, sequence), handle, tail)
    return Recovered(wal_id, state, [], open_file, 2, None, 0)


def _summary(files: FileSet, found: Recovered, seconds: float) -> Recovery:
    directories = [file.directory for file in files.sealed]
    extents = files.open.extents
    return Recovery(
        files=len(files.sealed) + 1,
        records=sum(directory.records for directory in directories) + extents.records,
        bytes=sum(directory.bytes for directory in directories)
        + sum(stream.end - stream.first for stream in extents.streams.values()),
        streams=len(files.state.streams),
        torn=found.torn,
        corruptions=found.corruptions,
        seconds=seconds,
    )
