"""Batches as bytes: what is copied, what is not, and how they get to the disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hf_agent.wal.batch import LARGE, Batch, Part, encode
from hf_agent.wal.disk import Buffer
from hf_agent.wal.state import StreamState
from support.wal_disk import MemoryDisk
from support.wal_tools import SMALL, open_wal, read_all, settle

ROOMY = replace(
    SMALL,
    file_bytes=256 << 20,
    max_bytes=1 << 30,
    max_batch_bytes=32 << 20,
    max_pending_bytes=64 << 20,
    max_record_bytes=1 << 20,
)


def batch_of(*buffers: Buffer) -> Batch:
    batch = Batch(1)
    part = Part(StreamState("s", 1))
    for buffer in buffers:
        part.buffers.append(buffer)
        part.size += len(buffer)
        part.large |= len(buffer) >= LARGE
    batch.parts["s"] = part
    return batch


def test_large_buffers_are_passed_to_the_disk_without_a_copy() -> None:
    large, small = bytes(LARGE), b"small"
    view = memoryview(bytearray(LARGE + 5))
    encoded = encode(batch_of(small, large, view, small, large).items(), 0, 64, 1, 0)
    assert sum(buffer is large for buffer in encoded.buffers) == 2
    assert sum(buffer is view for buffer in encoded.buffers) == 1
    assert len(encoded.buffers) == 6  # header and small, large, view, small, large, padding
    assert sum(map(len, encoded.buffers)) == encoded.size


def test_small_buffers_of_all_streams_become_one_buffer() -> None:
    batch = Batch(1)
    for number in range(300):
        part = Part(StreamState(f"s{number}", number + 1))
        part.buffers += [b"ab"] * 20
        part.size = 40
        batch.parts[part.state.name] = part
    encoded = encode(batch.items(), 0, 64, 1, 0)
    assert len(encoded.buffers) == 1
    assert encoded.offsets == [64 + 88 * number for number in range(300)]


class StutteringDisk(MemoryDisk):
    """Writes less than it is asked to, and counts the buffers of each call."""

    def __init__(self) -> None:
        super().__init__()
        self.most_buffers = 0

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.most_buffers = max(self.most_buffers, len(buffers))
        data = b"".join(buffers)
        return super().pwritev(fd, [data[: len(data) * 2 // 3 + 1]], offset)


def test_short_writes_are_gone_on_with() -> None:
    disk = StutteringDisk()
    wal = open_wal(disk)
    data = bytes(range(256)) * 20
    wal.append("s", data)
    settle(wal)
    wal.close()
    assert read_all(open_wal(disk), "s") == data


def test_no_call_gets_more_than_1024_buffers() -> None:
    disk = StutteringDisk()
    disk.piece_bytes = 1 << 30
    wal = open_wal(disk, ROOMY)
    large = bytes(LARGE)
    for _ in range(1500):
        wal.append("s", large)
        wal.append("s", b"small")
    settle(wal)
    assert disk.most_buffers == 1024
    wal.close()
    assert read_all(open_wal(disk, ROOMY), "s", 1 << 30) == (large + b"small") * 1500


def test_every_mix_of_sizes_reads_back() -> None:
    disk = MemoryDisk()
    config = replace(ROOMY, file_bytes=4 << 20)
    wal = open_wal(disk, config)
    sizes = [1, 7, 8, 9, LARGE - 1, LARGE, LARGE + 1, 65_535, 65_536, 70_001]
    expected = {"a": b"", "b": b""}
    for first in sizes:
        for second in sizes:
            for name, size in (("a", first), ("b", second), ("a", second)):
                data = bytes([size & 0xFF]) * size
                expected[name] += data
                wal.append(name, data)
            settle(wal)
    wal.close()
    again = open_wal(disk, replace(config, max_bytes=2 << 30))
    for name, data in expected.items():
        assert read_all(again, name, 100_000) == data
        assert read_all(again, name, 1 << 30) == data


def test_memory_of_durable_payloads_is_let_go() -> None:
    wal = open_wal(MemoryDisk(), ROOMY)
    payload = bytearray(LARGE)
    wal.append("s", payload)
    settle(wal)
    payload.append(1)  # fails while something still holds its buffer
