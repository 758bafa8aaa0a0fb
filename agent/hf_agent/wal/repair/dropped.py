"""The side file of a repair: the bytes of every damaged place, one after the other.

`report.json` beside it says where each place begins in it (`dropped_at`, `dropped_bytes`), and from
which file and offset it is. So the damaged files can be removed, and nothing is gone for good that
somebody may still want to look at.
"""

from __future__ import annotations

import os
from pathlib import Path

from hf_agent.wal.disk import Disk, preadv_all, pwritev_all
from hf_agent.wal.files import sync
from hf_agent.wal.handle import Handle
from hf_agent.wal.repair.report import Damage

__all__ = ["DROPPED_NAME", "write_dropped"]

DROPPED_NAME = "dropped.bin"

_CHUNK = 1 << 20


def write_dropped(disk: Disk, directory: Path, folder: Path, places: list[Damage]) -> int:
    """Copy the bytes of `places` from the files in `directory` into the side file in `folder`.

    Tells each where its bytes are now; zeros at a place's end are left out. Returns the bytes.
    Raises `OSError`, `SyncFailure`.
    """
    target = Handle(disk, disk.open(folder / DROPPED_NAME, os.O_RDWR | os.O_CREAT))
    at = 0
    try:
        disk.truncate(target.fd, 0)
        for place in places:
            if place.bytes:
                place.dropped_at = at
                place.dropped_bytes = _copy(disk, directory / place.file, place, target.fd, at)
                at += place.dropped_bytes
        sync(disk.fsync, target.fd)
    finally:
        target.close()
    return at


def _copy(disk: Disk, source: Path, place: Damage, target: int, at: int) -> int:
    """Copy one place to offset `at`; returns its bytes without the zeros at its end."""
    handle = Handle(disk, disk.open(source, os.O_RDONLY))
    done = written = 0
    try:
        while done < place.bytes:
            part = bytearray(min(_CHUNK, place.bytes - done))
            if not preadv_all(disk, handle.fd, [memoryview(part)], place.offset + done):
                break  # the place reached beyond the file's end
            solid = len(part.rstrip(b"\0"))
            if solid:
                gap = done - written
                for start in range(0, gap, _CHUNK):
                    zeros = bytes(min(_CHUNK, gap - start))
                    pwritev_all(disk, target, [zeros], at + written + start)
                pwritev_all(disk, target, [bytes(part[:solid])], at + done)
                written = done + solid
            done += len(part)
    finally:
        handle.close()
    return written
