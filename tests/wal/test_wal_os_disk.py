"""`OsDisk` where the kernel or the file system lacks something."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from hf_agent.wal import OsDisk, disk
from hf_agent.wal.disk import Buffer, preadv_all, pwritev_all, pwritev_all_sync


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = OsDisk().open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    OsDisk().close(fd)


def test_without_rwf_dsync_a_write_is_followed_by_a_sync(
    fd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    plain_write, plain_sync = os.pwritev, os.fdatasync

    def pwritev(fd: int, buffers: Sequence[bytes], offset: int, flags: int = 0) -> int:
        calls.append("pwritev")
        if flags:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return plain_write(fd, buffers, offset)

    def fdatasync(fd: int) -> None:
        calls.append("fdatasync")
        plain_sync(fd)

    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    assert OsDisk().pwritev_sync(fd, [b"abc", b"def"], 0) == 6
    assert calls == ["pwritev", "pwritev", "fdatasync"]
    monkeypatch.setattr(disk, "_RWF_DSYNC", 0)
    calls.clear()
    assert OsDisk().pwritev_sync(fd, [b"ghi"], 6) == 3
    assert calls == ["pwritev", "fdatasync"]
    assert os.pread(fd, 100, 0) == b"abcdefghi"


def test_other_errors_of_a_write_come_through(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwritev(*_: Any) -> int:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "pwritev", pwritev)
    with pytest.raises(OSError, match="input/output error"):
        OsDisk().pwritev_sync(fd, [b"x"], 0)


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_without_preallocation_the_file_still_gets_its_size(
    fd: int, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fallocate(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    OsDisk().fallocate(fd, 10_000)
    OsDisk().fallocate(fd, 5_000)
    assert os.fstat(fd).st_size == 10_000


def test_no_room_for_preallocation_is_told(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fallocate(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with pytest.raises(OSError, match="no space"):
        OsDisk().fallocate(fd, 10_000)


def test_a_disk_that_takes_no_bytes_is_an_error(fd: int) -> None:
    class Deaf(OsDisk):
        def pwritev(self, fd: int, buffers: Sequence[disk.Buffer], offset: int) -> int:
            return 0

    with pytest.raises(OSError, match="took no bytes"):
        pwritev_all(Deaf(), fd, [b"x"], 0)


def test_reads_go_on_after_short_ones_and_tell_the_end(fd: int) -> None:
    class Slow(OsDisk):
        def preadv(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
            return super().preadv(fd, [buffers[0][:3]], offset)

    pwritev_all(OsDisk(), fd, [b"0123456789"], 0)
    first, second = bytearray(4), bytearray(6)
    assert preadv_all(Slow(), fd, [memoryview(first), memoryview(second)], 0)
    assert first + second == b"0123456789"
    assert not preadv_all(Slow(), fd, [memoryview(first)], 8)


class Pieces(OsDisk):
    """Keeps the calls that write and sync."""

    def __init__(self, piece_bytes: int, *, most: int = 1 << 30) -> None:
        self.piece_bytes = piece_bytes
        self.most = most
        self.calls: list[int | str] = []

    def pwritev(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        assert buffers and all(map(len, buffers))
        self.calls.append(sum(map(len, buffers)))
        return os.pwrite(fd, b"".join(buffers)[: self.most], offset)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.calls.append("and sync")
        return self.pwritev(fd, buffers, offset)

    def fdatasync(self, fd: int) -> None:
        self.calls.append("sync")


def test_what_is_longer_than_a_piece_goes_in_pieces_and_is_synced_once(fd: int) -> None:
    disk = Pieces(1000)
    data = random.Random(1).randbytes(3500)
    buffers: list[Buffer] = [
        data[:10],
        memoryview(data)[10:2700],
        data[2700:2900],
        bytearray(data[2900:]),
    ]
    pwritev_all_sync(disk, fd, buffers, 3500, 7)
    assert disk.calls == [1000, 1000, 1000, 500, "sync"]
    assert os.pread(fd, 9999, 7) == data


def test_what_is_no_longer_is_one_call(fd: int) -> None:
    disk = Pieces(1000)
    pwritev_all_sync(disk, fd, [b"a" * 400, b"b" * 600], 1000, 0)
    assert disk.calls == ["and sync", 1000]


def test_more_buffers_than_a_call_takes_go_in_several(fd: int) -> None:
    disk = Pieces(1 << 20)
    pwritev_all_sync(disk, fd, [b"x"] * 2500, 2500, 0)
    assert disk.calls == [1024, 1024, 452, "sync"]


def test_pieces_of_any_buffers_are_written_whole_and_in_order(fd: int) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    for _ in range(300):
        buffers = [rng.randbytes(rng.choice((0, 1, 7, 64, 500))) for _ in range(rng.randrange(40))]
        whole = b"".join(buffers)
        disk = Pieces(rng.choice((1, 64, 100, 4096)), most=rng.choice((3, 50, 1 << 30)))
        os.ftruncate(fd, 0)
        pwritev_all(disk, fd, buffers, 5)
        assert os.pread(fd, len(whole) + 9, 5) == whole
        written = [call for call in disk.calls if isinstance(call, int)]
        assert all(size <= disk.piece_bytes for size in written)
