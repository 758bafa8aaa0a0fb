"""Plans and reads: whole records, large reads, flat memory, files that stay while they are read."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from hf_agent.wal import WalError
from support.wal_disk import MemoryDisk
from support.wal_tools import (
    SMALL,
    fill_file,
    image_of,
    kind,
    open_wal,
    read_all,
    sequences,
    settle,
)

BIG = replace(
    SMALL,
    file_bytes=1 << 20,
    max_bytes=32 << 20,
    max_batch_bytes=128 << 10,
    max_record_bytes=256 << 10,
)


def test_a_plan_takes_whole_records_up_to_its_limit() -> None:
    wal = open_wal(MemoryDisk())
    for _ in range(10):
        wal.append("s", b"0123456789")
        settle(wal)
    assert [wal.plan("s", 0, limit).end for limit in (10, 19, 20, 95, 1000)] == [
        *(10, 10, 20, 90, 100),
    ]
    assert wal.plan("s", 30, 25).end == 50


def test_a_plan_holds_at_least_one_record() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", bytes(500))
    settle(wal)
    plan = wal.plan("s", 0, 1)
    assert (plan.nbytes, plan.records) == (500, 1)


def test_a_plan_is_empty_where_nothing_is_durable() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"pending")
    plan = wal.plan("s", 0, 100)
    assert not plan
    assert (plan.start, plan.end, plan.nbytes) == (0, 0, 0)
    wal.read_into(plan, memoryview(b""))
    settle(wal)
    assert wal.plan("s", 0, 100)
    assert not wal.plan("s", 7, 100)


def test_a_plan_must_start_where_a_record_does() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"0123456789")
    settle(wal)
    with pytest.raises(WalError, match="no record begins there stream=s start=3"):
        wal.plan("s", 3, 100)
    with pytest.raises(WalError, match=r"no such bytes .*start=11 first=0 durable=10"):
        wal.plan("s", 11, 100)
    with pytest.raises(WalError, match="no such stream"):
        wal.plan("nobody", 0, 100)
    fill_file(wal)
    with pytest.raises(WalError, match="no record begins there"):
        wal.plan("s", 3, 100)


def test_a_plan_goes_on_over_several_files() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    expected = {"a": b"", "b": b"", "rare": b""}
    for number in range(60):
        for name in ("a", "b", "rare"):
            if name != "rare" or number % 25 == 3:
                data = b"%s-%d;" % (name.encode(), number) * 150
                wal.append(name, data)
                expected[name] += data
        settle(wal)
    assert len(sequences(wal)) >= 4
    for log in (wal, open_wal(_copy(disk))):
        for name, data in expected.items():
            for limit in (1, 5000, 40_000, 1 << 20):
                assert read_all(log, name, limit) == data
        assert log.plan("a", 0, 1 << 20).nbytes == len(expected["a"])


def _copy(disk: MemoryDisk) -> MemoryDisk:
    copy = MemoryDisk()
    copy.put(image_of(disk))
    return copy


def test_the_buffer_must_have_the_size_of_the_plan() -> None:
    wal = open_wal(MemoryDisk())
    wal.append("s", b"12345")
    settle(wal)
    with pytest.raises(ValueError, match="bytes=4 plan=5"):
        wal.read_into(wal.plan("s", 0, 10), memoryview(bytearray(4)))


def test_tiny_records_are_read_in_large_pieces() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, BIG)
    for _ in range(2000):
        wal.append("a", b"x" * 20)
        wal.append("b", b"y" * 20)
        settle(wal)
    plan = wal.plan("a", 0, 1 << 20)
    assert plan.records == 2000
    before = disk.reads
    buffer = bytearray(plan.nbytes)
    wal.read_into(plan, memoryview(buffer))
    assert buffer == b"x" * 40_000
    assert disk.reads - before <= 2


def test_large_records_are_read_straight_into_the_buffer() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, BIG)
    data = bytes(range(256)) * 800
    wal.append("s", data)
    wal.append("s", b"small")
    settle(wal)
    wal.append("s", data)
    settle(wal)
    targets: list[int] = []
    plain = disk.preadv

    def watching(fd: int, buffers: list[memoryview], offset: int) -> int:
        targets.extend(buffer.nbytes for buffer in buffers if buffer.obj is target)
        return plain(fd, buffers, offset)

    disk.preadv = watching  # type: ignore[method-assign, assignment]
    plan = wal.plan("s", 0, 1 << 20)
    target = bytearray(plan.nbytes)
    wal.read_into(plan, memoryview(target))
    assert target == data + b"small" + data
    assert sum(targets) >= 2 * len(data)


def test_far_apart_records_are_not_read_with_what_lies_between() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, BIG)
    for _ in range(3):
        wal.append("rare", b"r")
        wal.append("other", bytes(120_000))
        settle(wal)
    plan = wal.plan("rare", 0, 100)
    disk.largest_read = 0
    buffer = bytearray(3)
    wal.read_into(plan, memoryview(buffer))
    assert buffer == b"rrr"
    assert disk.largest_read < 1000


def test_memory_for_extents_is_bounded_by_files_not_by_records() -> None:
    """What grows with the backlog: some arrays for each sealed file, nothing for each record."""
    wal = open_wal(MemoryDisk(), BIG)
    for number in range(25_000):
        wal.append("ab"[number % 2], b"tiny")
        if number % 2:
            settle(wal)
    files = wal._files
    assert len(files.sealed) >= 1
    records = sum(file.directory.records for file in files.sealed)
    assert records > 10_000
    for file in files.sealed:
        assert file.extents is None
        directory = file.directory
        columns = [getattr(directory, name) for name in directory.__slots__]
        assert [len(column) for column in columns] == [2] * len(columns)
        assert sum(map(sys.getsizeof, columns)) < 1000
    # In the open file: 8 bytes for each record, with what arrays keep in reserve.
    open_records = files.open.extents.records
    arrays = [
        column
        for extents in files.open.extents.streams.values()
        for column in (extents.offsets, extents.ends)
    ]
    assert sum(column.itemsize * len(column) for column in arrays) == 8 * open_records
    assert sum(map(sys.getsizeof, arrays)) < 10 * open_records + 1000


def test_a_file_that_is_planned_is_not_written_again_before_it_is_read() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    appended = fill_file(wal, "s")
    plan = wal.plan("s", 0, 1 << 20)
    view = wal.stream("s")
    assert view is not None
    wal.commit("s", view.durable)
    settle(wal)
    assert sequences(wal) == [2]
    for _ in range(3):
        fill_file(wal, "s")
        view = wal.stream("s")
        assert view is not None
        wal.commit("s", view.durable)
        settle(wal)
    buffer = bytearray(plan.nbytes)
    wal.read_into(plan, memoryview(buffer))
    assert buffer == appended[: plan.nbytes]


def test_a_file_that_nobody_reads_becomes_the_spare_when_there_is_none() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, replace(SMALL, max_bytes=3 * SMALL.file_bytes))
    while kind(wal) == "ok":
        wal.append("s", bytes(4000))
        settle(wal)
    first = disk.names["0000000000000001.wal"]
    view = wal.stream("s")
    assert view is not None
    wal.commit("s", view.durable)
    settle(wal)
    assert disk.names["spare.tmp"] is first


def test_descriptors_of_sealed_files_are_bounded() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, replace(SMALL, max_bytes=3 << 20))
    for _ in range(60):
        fill_file(wal, "s")
    assert len(sequences(wal)) > 50
    read_all(wal, "s", 1 << 20)
    assert len(disk.fds) <= 32 + 4
    wal.close()
    assert len(disk.fds) <= 1
