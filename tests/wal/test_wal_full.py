"""A full log or disk: nothing is acknowledged, nothing is lost, and it goes on by itself."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from hf_agent.wal import Wal, WalUnusable
from support.wal_disk import MemoryDisk
from support.wal_tools import SMALL, kind, open_wal, read_all, sequences, settle

LIMITS = replace(SMALL, max_bytes=96 << 10)
CHUNK = bytes(range(250)) * 10


def fill(wal: Wal, stream: str = "s") -> bytes:
    """Append until the log is full; returns everything appended."""
    appended = b""
    while wal.accepts():
        wal.append(stream, CHUNK)
        appended += CHUNK
        settle(wal)
    assert kind(wal) == "full"
    return appended


def durable(wal: Wal, stream: str = "s") -> int:
    view = wal.stream(stream)
    assert view is not None
    return view.durable


def test_at_the_limit_the_log_is_full_and_says_why() -> None:
    wal = open_wal(MemoryDisk(), LIMITS)
    appended = fill(wal)
    assert "at its limit" in wal.state.reason
    assert f"max_bytes={96 << 10}" in wal.state.reason
    assert wal.size_bytes <= LIMITS.max_bytes
    assert durable(wal) < len(appended)
    assert wal.pending_bytes > 0


def test_a_commit_makes_room_and_what_waited_is_written() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, LIMITS)
    appended = fill(wal)
    assert wal.pinned() == ["s"]
    wal.commit("s", durable(wal))
    settle(wal)
    assert kind(wal) == "ok"
    assert wal.accepts()
    assert durable(wal) == len(appended)
    wal.append("s", b"after")
    settle(wal)
    first = wal.stream("s")
    assert first is not None
    assert read_all(wal, "s") == (appended + b"after")[first.first :]


def test_a_full_log_goes_round_many_times() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, LIMITS)
    appended = b""
    for _ in range(12):
        appended += fill(wal)
        wal.commit("s", durable(wal))
        settle(wal)
        assert kind(wal) == "ok"
    assert durable(wal) == len(appended)
    assert len(sequences(wal)) <= 3
    wal.close()
    again = open_wal(disk, LIMITS)
    view = again.stream("s")
    assert view is not None
    assert read_all(again, "s") == appended[view.first :]


def test_notes_go_on_when_the_log_is_full() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, LIMITS)
    appended = fill(wal)
    for number in range(40):
        batch = wal.note("s", b"bind %d" % number)
        settle(wal)
        assert wal.durable_batch >= batch
    assert kind(wal) == "full"
    assert not wal.accepts()
    wal.close()
    again = open_wal(disk, LIMITS)
    view = again.stream("s")
    assert view is not None
    assert view.note == b"bind 39"
    assert read_all(again, "s") == appended


def test_freeing_goes_on_when_even_the_reserve_is_used_up() -> None:
    wal = open_wal(MemoryDisk(), LIMITS)
    fill(wal)
    waiting = 0
    for number in range(1000):
        waiting = wal.note("s", (b"%d" % number).ljust(500, b"."))
        settle(wal)
        if wal.durable_batch < waiting:
            break
    assert wal.durable_batch < waiting
    wal.commit("s", durable(wal))
    settle(wal)
    assert wal.durable_batch >= waiting
    assert kind(wal) == "ok"


def test_a_log_that_starts_full_is_full_until_something_is_committed() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, LIMITS)
    fill(wal)
    wal.close()
    again = open_wal(disk, LIMITS)
    again.step()
    assert kind(again) == "full"
    again.commit("s", durable(again))
    settle(again)
    assert kind(again) == "ok"


def test_closing_while_full_ends_and_does_not_acknowledge_what_waits() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, LIMITS)
    appended = fill(wal)
    before, reached = wal.durable_batch, durable(wal)
    wal.close()
    assert kind(wal) == "closed"
    assert wal.durable_batch == before
    assert read_all(open_wal(disk, LIMITS), "s") == appended[:reached]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_a_full_log_that_goes_on_when_there_is_room(code: int) -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    disk.errors["fallocate"] = code
    appended = fill(wal)
    assert "make room on its disk" in wal.state.reason
    assert f"errno={code}" in wal.state.reason
    settle(wal)
    assert kind(wal) == "full"
    del disk.errors["fallocate"]
    settle(wal)
    assert kind(wal) == "ok"
    assert read_all(wal, "s") == appended


def test_what_could_not_be_allocated_does_not_stay_on_the_disk() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    disk.errors["fallocate"] = errno.ENOSPC
    fill(wal)
    assert "spare.tmp" not in disk.names


def test_no_space_at_a_write_is_tried_again_at_the_same_place() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"before")
    settle(wal)
    disk.errors["pwritev"] = errno.ENOSPC
    wal.append("s", b"during")
    settle(wal)
    assert kind(wal) == "full"
    assert durable(wal) == 6
    del disk.errors["pwritev"]
    settle(wal)
    assert kind(wal) == "ok"
    wal.close()
    again = open_wal(disk)
    assert again.recovery.torn is None
    assert read_all(again, "s") == b"beforeduring"


def test_the_floor_is_one_file_and_the_spare() -> None:
    wal = open_wal(MemoryDisk())
    for _ in range(60):
        wal.append("s", CHUNK)
        settle(wal)
    assert wal.size_bytes > 3 * SMALL.file_bytes
    assert wal.oldest_time > 0
    wal.commit("s", durable(wal))
    settle(wal)
    assert wal.size_bytes == 2 * SMALL.file_bytes
    assert wal.oldest_time == 0.0
    assert wal.pinned() == []


def test_files_that_a_crash_kept_from_being_freed_go_at_the_next_start() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    for _ in range(40):
        wal.append("s", CHUNK)
        settle(wal)
    files = sequences(wal)
    assert len(files) > 2
    disk.errors["unlink"] = errno.EIO
    wal.commit("s", durable(wal))
    with pytest.raises(OSError, match="Input/output error"):
        settle(wal)  # the COMMIT is durable by then
    disk.errors.clear()
    disk.process_death()
    again = open_wal(disk)
    assert sequences(again) == files
    again.step()
    assert sequences(again) == files[-1:]


def test_a_log_that_is_closed_with_everything_committed_has_one_file_left() -> None:
    """To free a file takes a record, and so does the end. When the second of them found no room, a
    file was begun for it, and the one before stayed, with nothing in it that anybody needs."""
    begun = 0
    for last in range(0, 4096, 8):
        wal = open_wal(MemoryDisk())
        sizes = (*[4000] * 14, last)
        for size in sizes:
            wal.append("app", bytes(size))
            settle(wal)
        before = sequences(wal)
        assert len(before) > 1
        wal.commit("app", sum(sizes))
        wal.close()
        after = sequences(wal)
        assert len(after) == 1, f"last={last} {before} {after}"
        begun += after > before[-1:]
    assert begun, "no size had the end of the log begin a file"


def test_too_little_space_at_the_first_start_is_told() -> None:
    disk = MemoryDisk()
    disk.capacity = 20_000
    with pytest.raises(WalUnusable, match="no space left on device; make room on its disk"):
        open_wal(disk)
    disk.capacity = 1 << 30
    assert open_wal(disk).recovery.files == 1
