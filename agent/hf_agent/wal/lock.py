"""The lock that keeps a second agent, or a second `Wal` of this process, off a directory."""

from __future__ import annotations

import os
from pathlib import Path

from hf_agent.wal.disk import Disk, preadv_all, pwritev_all
from hf_agent.wal.errors import WalLocked
from hf_agent.wal.file_head import LOCK_NAME
from hf_agent.wal.handle import Handle

__all__ = ["take_lock"]

_MAX_PID_BYTES = 20


def take_lock(disk: Disk, directory: Path) -> Handle:
    """Take the directory's lock; the kernel frees it when the handle or the process goes.

    Raises `WalLocked` with the holder's process id, and `OSError`.
    """
    handle = Handle(disk, disk.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT))
    if not disk.lock(handle.fd):
        raise WalLocked(directory, _holder(disk, handle.fd))
    text = f"{os.getpid()}\n".encode()
    disk.truncate(handle.fd, 0)
    pwritev_all(disk, handle.fd, [text], 0)
    return handle


def _holder(disk: Disk, fd: int) -> int:
    # Only for the message: it may be empty while the holder is just writing it.
    data = bytearray(min(_MAX_PID_BYTES, disk.size(fd)))
    preadv_all(disk, fd, [memoryview(data)], 0)
    text = bytes(data).strip()
    return int(text) if text.isdigit() else 0
