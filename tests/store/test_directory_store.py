"""What is the directory store's own: what it leaves on disk, syncs and refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import (
    ObjectInfo,
    Store,
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.disk import OsDisk
from hf_agent.store.durable import TEMPORARY_PREFIX
from support.faulty_disk import FailingDisk, RecordingDisk

LARGE = 70_000


def make(root: Path, **arguments: Any) -> DirectoryStore:
    return DirectoryStore(root, clock=SystemClock(), rng=random.Random(3), **arguments)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def listed(store: Store) -> list[str]:
    return sorted([item.key async for item in store.list() if isinstance(item, ObjectInfo)])


async def test_objects_are_plain_files_under_their_keys(tmp_path: Path) -> None:
    store = make(tmp_path)
    etag = await store.create("node/app/inode", b"one")
    await store.create("node/app/0000000001.0", b"two")
    await store.replace("node/app/inode", b"three", etag=etag)
    assert (tmp_path / "node/app/inode").read_bytes() == b"three"
    assert (tmp_path / "node/app/0000000001.0").read_bytes() == b"two"
    visible = [name for name in files(tmp_path) if "/." not in name]
    assert visible == ["node/app/0000000001.0", "node/app/inode"]


async def test_a_copied_directory_keeps_the_etags_of_small_objects(tmp_path: Path) -> None:
    etag = await make(tmp_path / "one").create("a/inode", b"content")
    (tmp_path / "one").rename(tmp_path / "two")
    (tmp_path / "two/a/inode").write_bytes(b"content")
    assert (await make(tmp_path / "two").head("a/inode")).etag == etag


async def test_a_large_object_has_another_etag_in_the_same_inode_and_millisecond(
    tmp_path: Path,
) -> None:
    class CoarseDisk(OsDisk):
        """Stamps every file alike and numbers them alike, as a fast disk may happen to do."""

        def fstat(self, fd: int) -> os.stat_result:
            stat = super().fstat(fd)
            if stat.st_size != LARGE:
                return stat
            mtime = 10**18 + stat.st_mtime_ns % 1_000_000
            return os.stat_result((stat.st_mode, 7, *stat[2:]), {"st_mtime_ns": mtime})

    store = make(tmp_path, disk=CoarseDisk())
    first = await store.create("object", bytes(LARGE))
    second = await store.replace("object", bytes(LARGE), etag=first)
    assert first != second
    with pytest.raises(StoreConflict):
        await store.replace("object", bytes(LARGE), etag=first)


async def test_a_new_object_is_synced_before_it_has_its_name_and_its_name_after(
    tmp_path: Path,
) -> None:
    root = tmp_path / "new/root"
    disk = RecordingDisk()
    await make(root, disk=disk).create("a/object", b"x")
    steps = disk.names("mkdir", "fsync", "link", "unlink")
    temporary = next(path for name, path in steps if TEMPORARY_PREFIX in path)
    assert steps == [
        ("mkdir", f"{root}/a"),  # fails for want of parents, which are made first
        ("mkdir", f"{root}"),
        ("mkdir", f"{tmp_path}/new"),
        ("fsync", f"{tmp_path}"),
        ("mkdir", f"{root}"),
        ("fsync", f"{tmp_path}/new"),
        ("mkdir", f"{root}/a"),
        ("fsync", f"{root}"),
        ("fsync", temporary),
        ("link", f"{root}/a/object"),
        ("unlink", temporary),
        ("fsync", f"{root}/a"),
        ("fsync", f"{root}"),
        ("fsync", f"{tmp_path}/new"),
    ]


async def test_directories_known_to_be_durable_are_not_synced_upwards_again(
    tmp_path: Path,
) -> None:
    disk = RecordingDisk()
    store = make(tmp_path, disk=disk)
    await store.create("a/one", b"x")
    disk.calls.clear()
    await store.create("a/two", b"x")
    assert [path for _, path in disk.names("fsync")][1:] == [f"{tmp_path}/a"]
    assert disk.names("mkdir") == []


async def test_a_replaced_object_is_synced_before_and_after_the_rename(tmp_path: Path) -> None:
    disk = RecordingDisk()
    store = make(tmp_path, disk=disk)
    etag = await store.create("a/object", b"x")
    disk.calls.clear()
    await store.replace("a/object", b"y", etag=etag)
    steps = disk.names("flock", "fsync", "rename", "link")
    temporary = steps[1][1]
    assert TEMPORARY_PREFIX in temporary
    assert steps == [
        ("flock", f"{tmp_path}/a/.hf-lock-object"),
        ("fsync", temporary),
        ("rename", f"{tmp_path}/a/object"),
        ("fsync", f"{tmp_path}/a"),
    ]


async def test_what_a_conflict_shows_is_durable(tmp_path: Path) -> None:
    await make(tmp_path).create("a/object", b"ours")
    recording = RecordingDisk()
    store = make(tmp_path, disk=recording)
    with pytest.raises(StoreConflict):
        await store.create("a/object", b"ours")
    assert recording.calls.index(("fsync", f"{tmp_path}/a")) > recording.calls.index(
        ("link", f"{tmp_path}/a/object")
    )
    recording.calls.clear()
    with pytest.raises(StoreConflict):
        await store.replace("a/object", b"ours", etag="other")
    assert ("fsync", f"{tmp_path}/a") in recording.calls


async def test_no_system_call_is_made_on_the_loops_thread(tmp_path: Path) -> None:
    disk = RecordingDisk()
    store = make(tmp_path, disk=disk)
    etag = await store.create("a/object", b"x")
    await store.replace("a/object", b"y", etag=etag)
    await store.get("a/object")
    assert await listed(store) == ["a/object"]
    await store.delete("a/object")
    assert threading.get_ident() not in disk.threads


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("call", ["mkdir", "open", "writev", "link"])
async def test_a_create_that_fails_leaves_no_object_and_may_be_tried_again(
    tmp_path: Path, call: str, number: int
) -> None:
    disk = FailingDisk(call, number, times=1)
    store = make(tmp_path / "root", disk=disk)
    with pytest.raises(StoreRetry, match=errno.errorcode[number]) as caught:
        await store.create("a/object", [b"one", b"two"])
    assert caught.value.code == errno.errorcode[number]
    assert isinstance(caught.value.__cause__, OSError)
    assert files(tmp_path) == []
    await store.create("a/object", [b"one", b"two"])
    assert (await store.get("a/object")).data == b"onetwo"


@pytest.mark.parametrize("call", ["open", "flock", "writev", "fsync", "rename"])
async def test_a_replace_that_fails_leaves_the_old_object(tmp_path: Path, call: str) -> None:
    etag = await make(tmp_path).create("object", b"old")
    disk = FailingDisk(call, errno.ENOSPC, times=1)
    store = make(tmp_path, disk=disk)
    with pytest.raises(StoreRetry, match="free space"):
        await store.replace("object", b"new", etag=etag)
    assert (await store.get("object")).data == b"old"
    assert [name for name in files(tmp_path) if TEMPORARY_PREFIX in name] == []
    await store.replace("object", b"new", etag=etag)
    assert (await store.get("object")).data == b"new"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM, errno.EOPNOTSUPP])
async def test_a_disk_that_will_not_have_it_is_for_the_operator(
    tmp_path: Path, number: int
) -> None:
    store = make(tmp_path / "root", disk=FailingDisk("link", number))
    with pytest.raises(StoreRefused, match=errno.errorcode[number]) as caught:
        await store.create("object", b"x")
    assert str(tmp_path / "root/object") in str(caught.value)
    assert files(tmp_path) == []


async def test_a_root_that_cannot_be_made_is_refused_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    store = make(tmp_path / "file/root")
    with pytest.raises(StoreRefused, match="a file stands where a directory is needed"):
        await store.create("object", b"x")
    denied = make(tmp_path / "denied", disk=FailingDisk("mkdir", errno.EACCES))
    with pytest.raises(StoreRefused, match="let the user of this process"):
        await denied.create("object", b"x")


async def test_reading_does_not_make_the_root(tmp_path: Path) -> None:
    store = make(tmp_path / "root")
    with pytest.raises(StoreNotFound):
        await store.get("object")
    with pytest.raises(StoreNotFound):
        await store.replace("object", b"x", etag="some")
    await store.delete("object")
    assert await listed(store) == []
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/absolute",
        "trailing/",
        "a//b",
        "..",
        "../outside",
        "a/../b",
        "./a",
        "a/./b",
        "zero\0byte",
        "a/.hf-tmp-0123",
        ".hf-lock-object",
        ".hf-tmp-dir/object",
        "x" * 250,
        "lone\udfffsurrogate\ud800",
    ],
)
async def test_a_key_that_can_be_no_path_is_refused(tmp_path: Path, key: str) -> None:
    store = make(tmp_path / "root")
    for operation in (
        store.create(key, b"x"),
        store.get(key),
        store.head(key),
        store.replace(key, b"x", etag="some"),
        store.delete(key),
    ):
        with pytest.raises(StoreRefused, match="the key cannot be a path"):
            await operation
    assert list(tmp_path.iterdir()) == []


async def test_a_key_below_another_object_or_above_one_is_refused(tmp_path: Path) -> None:
    store = make(tmp_path)
    await store.create("a/b", b"x")
    with pytest.raises(StoreRefused, match="a file stands where a directory is needed"):
        await store.create("a/b/c", b"y")
    with pytest.raises(StoreRefused, match="the key is a directory of other keys"):
        await store.create("a", b"y")
    await store.delete("a")
    assert await listed(store) == ["a/b"]


async def test_files_of_the_stores_own_are_not_listed(tmp_path: Path) -> None:
    store = make(tmp_path)
    etag = await store.create("a/object", b"x")
    await store.replace("a/object", b"y", etag=etag)
    (tmp_path / "a/.hf-tmp-0123456789abcdef").write_bytes(b"half")
    (tmp_path / "only").mkdir()
    (tmp_path / "only/.hf-tmp-0123456789abcdef").write_bytes(b"half")
    (tmp_path / "empty").mkdir()
    (tmp_path / "a/.nfs00000000000a1b2c00000001").write_bytes(b"replaced while open")
    assert (tmp_path / "a/.hf-lock-object").exists()
    assert await listed(store) == ["a/object"]
    assert [item async for item in store.list(delimiter="/")] == ["a/"]
    assert [item async for item in store.list("a/.hf")] == []


async def test_leftovers_of_the_dead_go_at_the_first_write_and_fresh_ones_stay(
    tmp_path: Path,
) -> None:
    old, fresh = tmp_path / "a/.hf-tmp-00000000000000aa", tmp_path / "a/.hf-tmp-00000000000000bb"
    old.parent.mkdir()
    old.write_bytes(b"half")
    fresh.write_bytes(b"in the making")
    now = SystemClock().time()
    os.utime(old, (now - 3700, now - 3700))
    os.utime(fresh, (now - 3500, now - 3500))
    await make(tmp_path).create("a/object", b"x")
    assert files(tmp_path) == ["a/.hf-tmp-00000000000000bb", "a/object"]


async def test_a_deleted_object_leaves_nothing_behind(tmp_path: Path) -> None:
    store = make(tmp_path / "root")
    etag = await store.create("a/b/object", b"x")
    await store.replace("a/b/object", b"y", etag=etag)
    await store.create("a/other", b"x")
    await store.delete("a/b/object")
    assert sorted(path.name for path in (tmp_path / "root/a").iterdir()) == ["other"]
    await store.delete("a/other")
    assert list((tmp_path / "root").iterdir()) == []


async def test_a_directory_removed_under_a_writer_is_made_again(tmp_path: Path) -> None:
    class RemovingDisk(OsDisk):
        """Somebody deletes the last object of the directory just before we write into it."""

        removals = 2

        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            if flags & os.O_EXCL and self.removals:
                self.removals -= 1
                os.rmdir(os.path.dirname(path))
            return super().open(path, flags, mode)

    disk = RemovingDisk()
    store = make(tmp_path, disk=disk)
    await store.create("a/object", b"x")
    assert disk.removals == 0
    assert (tmp_path / "a/object").read_bytes() == b"x"


async def test_writes_that_come_short_are_continued(tmp_path: Path) -> None:
    class ShortDisk(OsDisk):
        def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
            return super().writev(fd, [buffers[0][:3]])

        def pread(self, fd: int, nbytes: int, offset: int) -> bytes:
            return super().pread(fd, min(nbytes, 1_000), offset)

    data = random.Random(5).randbytes(5_000)
    store = make(tmp_path, disk=ShortDisk())
    await store.create("object", [data[:10], data[10:11], data[11:]])
    assert (await store.get("object")).data == data
    assert (await store.get("object", start=1_234)).data == data[1_234:]


async def test_a_link_whose_answer_was_lost_is_ours(tmp_path: Path) -> None:
    class ForgetfulDisk(OsDisk):
        """A network file system that did the link and answers the repeated request."""

        def link(self, source: str, target: str) -> None:
            super().link(source, target)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    store = make(tmp_path, disk=ForgetfulDisk())
    etag = await store.create("object", b"x")
    assert (await store.head("object")).etag == etag
    assert files(tmp_path) == ["object"]


async def test_a_pipe_in_the_root_is_no_object_and_hangs_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    store = make(tmp_path)
    with pytest.raises(StoreNotFound):
        await store.get("pipe")
    assert await listed(store) == []


async def test_a_file_cut_by_somebody_else_while_it_is_read_may_be_read_again(
    tmp_path: Path,
) -> None:
    class CuttingDisk(OsDisk):
        def pread(self, fd: int, nbytes: int, offset: int) -> bytes:
            os.truncate(tmp_path / "object", 10)
            return super().pread(fd, nbytes, offset)

    await make(tmp_path).create("object", b"x" * 100)
    with pytest.raises(StoreRetry, match="shrank"):
        await make(tmp_path, disk=CuttingDisk()).get("object")


async def test_the_observer_hears_of_every_request_and_how_it_ended(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []
    store = make(
        tmp_path,
        disk=FailingDisk("rename", errno.ENOSPC, times=1),
        observer=lambda operation, code, seconds: heard.append((operation, code)),
    )
    etag = await store.create("object", b"x")
    for operation in (
        store.create("object", b"x"),
        store.replace("object", b"x", etag=etag),
        store.replace("object", b"x", etag="other"),
        store.head("nothing"),
        store.get(".."),
    ):
        with pytest.raises(StoreError):
            await operation
    await listed(store)
    await store.delete("object")
    assert heard == [
        ("create", "ok"),
        ("create", "EEXIST"),
        ("replace", "ENOSPC"),
        ("replace", "PreconditionFailed"),
        ("head", "ENOENT"),
        ("get", "InvalidKey"),
        ("list", "ok"),
        ("list", "ok"),
        ("delete", "ok"),
    ]


async def test_a_listing_that_fails_says_so(tmp_path: Path) -> None:
    store = make(tmp_path, disk=FailingDisk("scandir", errno.EACCES))
    with pytest.raises(StoreRefused, match="listing objects failed"):
        await listed(store)


async def test_a_store_may_be_closed_in_the_middle_of_a_listing(tmp_path: Path) -> None:
    store = make(tmp_path)
    for key in ("a", "b", "c/d"):
        await store.create(key, b"x")
    items = store.list()
    await anext(items)
    await store.close()
    async with contextlib.aclosing(items):  # type: ignore[type-var]
        pass


async def test_a_root_whose_parent_may_not_be_read_is_written_to(tmp_path: Path) -> None:
    class GuardedDisk(OsDisk):
        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            if path == str(tmp_path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return super().open(path, flags, mode)

    (tmp_path / "root").mkdir()
    store = make(tmp_path / "root", disk=GuardedDisk())
    await store.create("object", b"x")
    assert (await store.get("object")).data == b"x"


async def test_taken_temporary_names_are_not_mistaken_for_the_object(tmp_path: Path) -> None:
    class TakenDisk(OsDisk):
        taken = 3

        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            if flags & os.O_EXCL and self.taken:
                self.taken -= 1
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            return super().open(path, flags, mode)

    disk = TakenDisk()
    store = make(tmp_path, disk=disk)
    await store.create("object", b"x")
    disk.taken = 1 << 30
    with pytest.raises(StoreRetry, match="no free name"):
        await store.create("other", b"x")


async def test_a_write_that_makes_no_progress_ends(tmp_path: Path) -> None:
    class StuckDisk(OsDisk):
        def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
            return 0

    with pytest.raises(StoreRetry, match="no progress"):
        await make(tmp_path, disk=StuckDisk()).create("object", b"x")
    assert files(tmp_path) == []
