"""Small logs on a `MemoryDisk`, driven step by step in the test's own thread."""

from __future__ import annotations

import random
import struct

from crc32c import crc32c

from hf_agent.wal import Wal, WalConfig
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk

__all__ = [
    "SMALL",
    "disk_with",
    "fill_file",
    "image_of",
    "kind",
    "later_version",
    "open_wal",
    "read_all",
    "sequences",
    "settle",
]

SMALL = WalConfig(
    file_bytes=32 << 10,
    max_bytes=256 << 10,
    max_batch_bytes=4 << 10,
    max_pending_bytes=8 << 10,
    max_record_bytes=8 << 10,
    max_streams=100,
    max_marks=10,
)


def open_wal(
    disk: MemoryDisk,
    config: WalConfig = SMALL,
    *,
    clock: ManualClock | None = None,
    seed: int = 1,
) -> Wal:
    """Open (or begin) the log on `disk`; `seed` decides the WAL id of one that is begun."""
    rng = random.Random(seed)
    return Wal.open(disk.root, config, disk=disk, clock=clock or ManualClock(), rng=rng)


def kind(wal: Wal) -> str:
    """The kind of the log's state now."""
    return wal.state.kind


def settle(wal: Wal) -> None:
    """Do all that the writer thread would do before it waits."""
    last = -1
    while wal.durable_batch != last:
        last = wal.durable_batch
        wal.step()
    wal.step()


def read_all(wal: Wal, stream: str, max_bytes: int = 10_000) -> bytes:
    """Everything of a stream that can be read, plan by plan."""
    view = wal.stream(stream)
    assert view is not None
    position = view.first
    parts = []
    while plan := wal.plan(stream, position, max_bytes):
        buffer = bytearray(plan.nbytes)
        wal.read_into(plan, memoryview(buffer))
        parts.append(bytes(buffer))
        assert plan.start == position
        position = plan.end
    assert position == view.durable
    return b"".join(parts)


def fill_file(wal: Wal, stream: str = "filler") -> bytes:
    """Append until the log goes on in another file; returns what was appended."""
    data = bytes(range(256)) * 16
    before = sequences(wal)[-1]
    appended = b""
    while sequences(wal)[-1] == before:
        wal.append(stream, data)
        appended += data
        settle(wal)
    return appended


def sequences(wal: Wal) -> list[int]:
    """The sequence numbers of the log's files, as they stand in the directory."""
    names = wal._files.disk.listdir(wal._files.directory)
    return sorted(int(name[:16], 16) for name in names if name.endswith(".wal"))


def image_of(disk: MemoryDisk) -> dict[str, bytes]:
    """The bytes of all log files."""
    return {
        name: bytes(inode.data)
        for name, inode in disk.names.items()
        if name.endswith(".wal") and "/" not in name
    }


def disk_with(image: dict[str, bytes]) -> MemoryDisk:
    """A disk that holds exactly these files, durably."""
    disk = MemoryDisk()
    disk.put(image)
    return disk


def later_version(file: bytes, version: int = 2) -> bytes:
    """The head of a log file as a later version of the format would write it, if it kept to this
    one's layout."""
    head = file[:8] + struct.pack("<I", version) + file[12:60]
    return head + struct.pack("<I", crc32c(head))
