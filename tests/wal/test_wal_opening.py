"""Opening: the lock, unusable places, leftovers, and starts that crashed half-way."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock, system_random
from hf_agent.wal import Wal, WalConfig, WalCorrupt, WalLocked, WalUnusable
from support.wal_disk import MemoryDisk, PowerLoss
from support.wal_tools import SMALL, disk_with, image_of, open_wal, read_all, settle

HOLDER = """
import sys
from pathlib import Path
from hf_agent.clock import SystemClock, system_random
from hf_agent.wal import Wal
wal = Wal.open(Path(sys.argv[1]), {config}, clock=SystemClock(), rng=system_random())
print("held", flush=True)
sys.stdin.read()
"""


def open_real(directory: Path, config: WalConfig = SMALL) -> Wal:
    return Wal.open(directory, config, clock=SystemClock(), rng=system_random())


def test_a_second_process_is_locked_out_and_told_by_whom(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    script = HOLDER.format(config=f"__import__('hf_agent.wal').wal.{SMALL!r}")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(WalLocked, match=f"held by process {holder.pid}") as caught:
            open_real(directory)
        assert (caught.value.path, caught.value.pid) == (directory, holder.pid)
        holder.kill()
        holder.wait()
    # The kernel gave the lock back when its holder died.
    open_real(directory).close()


def test_two_logs_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    wal = open_real(tmp_path / "wal")
    with pytest.raises(WalLocked, match=f"process {os.getpid()}"):
        open_real(tmp_path / "wal")
    wal.close()
    open_real(tmp_path / "wal").close()


def test_a_refused_opening_gives_the_lock_back() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.close()
    disk.names["0000000000000001.wal"].data[0] ^= 1
    for _ in range(2):
        with pytest.raises(WalCorrupt):
            open_wal(disk)


def test_the_directory_is_made_private_when_its_parent_is_there(tmp_path: Path) -> None:
    open_real(tmp_path / "wal").close()
    assert (tmp_path / "wal").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "wal").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_missing_parent_is_told(tmp_path: Path) -> None:
    with pytest.raises(WalUnusable, match="no such file or directory; create the directory above"):
        open_real(tmp_path / "missing" / "wal")


def test_a_path_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "wal").write_text("")
    with pytest.raises(WalUnusable, match="is a file, not a directory; move it"):
        open_real(tmp_path / "wal")
    with pytest.raises(WalUnusable, match="not a directory; a part of the path"):
        open_real(tmp_path / "wal" / "deeper")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.EROFS, "read-only file system; the file system is read-only"),
        (errno.EACCES, "permission denied; give this user the right"),
        (errno.EIO, "the disk fails"),
    ],
)
def test_a_directory_that_cannot_be_written_is_told(code: int, advice: str) -> None:
    disk = MemoryDisk()
    disk.errors["open"] = code
    with pytest.raises(WalUnusable, match=advice) as caught:
        open_wal(disk)
    assert "/wal" in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_disk_that_cannot_sync_is_told() -> None:
    disk = MemoryDisk()
    disk.errors["fsync"] = errno.EIO
    with pytest.raises(WalUnusable, match="a sync failed: input/output error"):
        open_wal(disk)


def test_leftovers_are_removed_and_a_whole_spare_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "wal"
    open_real(directory).close()
    (directory / "other.tmp").write_text("left over")
    (directory / "note.txt").write_text("somebody's")
    spare = (directory / "spare.tmp").stat().st_ino
    open_real(directory).close()
    assert sorted(path.name for path in directory.iterdir()) == [
        *("0000000000000001.wal", "lock", "note.txt", "spare.tmp"),
    ]
    assert (directory / "spare.tmp").stat().st_ino == spare
    (directory / "spare.tmp").write_bytes(b"too small")
    open_real(directory).close()
    assert (directory / "spare.tmp").stat().st_size == SMALL.file_bytes


def test_a_first_start_that_crashes_anywhere_leaves_a_directory_that_starts() -> None:

    for dies_at in range(1, 30):
        for seed in range(5):
            disk = MemoryDisk()
            disk.dies_at = dies_at
            try:
                open_wal(disk)
            except PowerLoss:
                disk.power_loss(random.Random(seed))
            else:
                assert dies_at > 8
                disk.process_death()
            wal = open_wal(disk)
            wal.append("s", b"x")
            settle(wal)
            wal.close()
            assert read_all(open_wal(disk), "s") == b"x"


def test_files_of_another_size_than_configured_are_still_read() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"in a small file")
    wal.close()
    again = open_wal(disk, replace(SMALL, file_bytes=64 << 10))
    again.append("s", b", in a small file")
    settle(again)
    assert read_all(again, "s") == b"in a small file, in a small file"
    while len(image_of(disk)) == 1:
        again.append("s", bytes(4000))
        settle(again)
    assert sorted(map(len, image_of(disk).values())) == [32 << 10, 64 << 10]


def test_recovery_tells_what_it_found() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    for number in range(30):
        wal.append("ab"[number % 2], bytes(3000))
        settle(wal)
    wal.close()
    recovery = open_wal(disk).recovery
    assert (recovery.files, recovery.records, recovery.bytes) == (3, 30, 90_000)
    assert (recovery.streams, recovery.torn, recovery.corruptions) == (2, None, 0)
    assert recovery.seconds >= 0


def test_recovery_of_sealed_files_reads_their_index_only() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    for _ in range(40):
        wal.append("s", bytes(3000))
        settle(wal)
    image = image_of(disk)
    fresh = disk_with(image)
    newest = max(image)
    read = 0
    plain = fresh.preadv

    def counting(fd: int, buffers: list[memoryview], offset: int) -> int:
        nonlocal read
        count = plain(fd, buffers, offset)
        if fresh.fds[fd] is not fresh.names[newest]:
            read += count
        return count

    fresh.preadv = counting  # type: ignore[method-assign, assignment]
    open_wal(fresh)
    assert len(image) == 4
    # Head, snapshot header, footer, INDEX header, one directory entry.
    assert read == 3 * (64 + 48 + 64 + 48 + 40)


def test_a_batch_that_only_the_page_cache_has_is_written_again() -> None:
    """After a failed sync the pages count as clean: without writing, no later sync saves them."""
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"before ")
    settle(wal)
    wal.append("s", b"cached ")
    disk.errors["fdatasync"] = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        settle(wal)
    disk.errors.clear()
    disk.process_death()
    wal = open_wal(disk)
    assert read_all(wal, "s") == b"before cached "
    wal.append("s", b"after")
    settle(wal)
    disk.power_loss(random.Random(1))
    assert read_all(open_wal(disk), "s") == b"before cached after"
