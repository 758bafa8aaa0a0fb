"""The directory store among other processes: locks, races, and death at any system call."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import subprocess
import sys
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
    StoreNotFound,
    StoreRetry,
)
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.disk import OsDisk
from hf_agent.store.durable import TEMPORARY_PREFIX
from support.faulty_disk import DyingDisk, Killed

LARGE = 70_000


def make(root: Path, **arguments: Any) -> DirectoryStore:
    return DirectoryStore(root, clock=SystemClock(), rng=random.Random(3), **arguments)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def listed(store: Store) -> list[str]:
    return sorted([item.key async for item in store.list() if isinstance(item, ObjectInfo)])


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "r+") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


async def test_a_killed_holder_of_a_lock_frees_the_object(tmp_path: Path) -> None:
    store = make(tmp_path, lock_patience=0.05)
    etag = await store.create("object", b"one")
    etag = await store.replace("object", b"two", etag=etag)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".hf-lock-object")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout
        assert holder.stdin
        assert await asyncio.to_thread(holder.stdout.readline) == b"held\n"
        with pytest.raises(StoreRetry, match="another process holds the lock"):
            await store.replace("object", b"three", etag=etag)
        with pytest.raises(StoreRetry, match="another process holds the lock"):
            await store.delete("object")
        assert (await store.get("object")).data == b"two"
    finally:
        holder.kill()
        holder.communicate()
    await store.replace("object", b"three", etag=etag)
    assert (await store.get("object")).data == b"three"


async def test_a_lock_on_a_removed_lock_file_does_not_count(tmp_path: Path) -> None:
    """Two could else change the object at once, each holding "the" lock."""

    class RemovingDisk(OsDisk):
        removals = 1

        def try_flock(self, fd: int) -> bool:
            if self.removals:
                self.removals -= 1
                os.unlink(tmp_path / ".hf-lock-object")
            return super().try_flock(fd)

    etag = await make(tmp_path).create("object", b"one")
    removing = RemovingDisk()
    await make(tmp_path, disk=removing).replace("object", b"two", etag=etag)
    assert removing.removals == 0
    assert (tmp_path / ".hf-lock-object").exists()


RACER = """
import asyncio, contextlib, os, random, sys
from pathlib import Path
from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreConflict, StoreRetry
from hf_agent.store.directory import DirectoryStore

async def main(root, name, rounds):
    store = DirectoryStore(Path(root), clock=SystemClock(), rng=random.Random(name))
    sys.stdin.readline()
    wins = []
    for number in range(rounds):
        with contextlib.suppress(StoreConflict):
            await store.create(f"new/dir{number}/raced", [name.encode(), bytes(100)])
            wins.append(number)
    for _ in range(rounds):
        while True:
            found = await store.get("counter")
            with contextlib.suppress(StoreConflict, StoreRetry):
                body = str(int(found.data) + 1).encode()
                await store.replace("counter", body, etag=found.info.etag)
                break
    print(*wins, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


async def test_across_processes_one_creates_and_no_replace_is_lost(tmp_path: Path) -> None:
    rounds, names = 20, [f"racer-{number}" for number in range(4)]
    await make(tmp_path).create("counter", b"0")
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(tmp_path), name, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in names
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    outputs = await asyncio.gather(*(asyncio.to_thread(racer.communicate) for racer in racers))
    assert [racer.returncode for racer in racers] == [0] * len(racers)
    won = {
        int(number): name
        for name, (out, _) in zip(names, outputs, strict=True)
        for number in out.split()
    }
    assert sum(len(out.split()) for out, _ in outputs) == rounds
    store = make(tmp_path)
    for number in range(rounds):
        data = (await store.get(f"new/dir{number}/raced")).data
        assert data == won[number].encode() + bytes(100)
    assert (await store.get("counter")).data == str(rounds * len(names)).encode()
    assert [name for name in files(tmp_path) if TEMPORARY_PREFIX in name] == []


async def test_a_cancelled_write_cleans_up_after_itself(tmp_path: Path) -> None:
    entered, go_on = threading.Event(), threading.Event()

    class SlowDisk(OsDisk):
        def writev(self, fd: int, buffers: Sequence[memoryview]) -> int:
            entered.set()
            assert go_on.wait(60)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = make(tmp_path, disk=SlowDisk(), threads=1)
    task = asyncio.create_task(store.create("object", b"x"))
    await asyncio.to_thread(entered.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    with pytest.raises(StoreNotFound):  # queued behind the write in the only thread
        await store.get("object")
    assert files(tmp_path) == []


@pytest.mark.parametrize("nbytes", [160, LARGE])
async def test_a_process_killed_at_any_call_of_a_create_leaves_all_or_nothing(
    tmp_path: Path, nbytes: int
) -> None:
    data, last = random.Random(1).randbytes(nbytes), 0
    while True:
        root, disk = tmp_path / str(last), DyingDisk(last)
        with contextlib.suppress(Killed):
            await make(root, disk=disk).create("a/object", data)
        survivor = make(root)
        with contextlib.suppress(StoreConflict):
            await survivor.create("a/object", data)
        assert (await survivor.get("a/object")).data == data
        assert await listed(survivor) == ["a/object"]
        if not disk.dead:
            break
        last += 1
    assert last > 10


@pytest.mark.parametrize("nbytes", [160, LARGE])
async def test_a_process_killed_at_any_call_of_a_replace_leaves_the_old_or_the_new(
    tmp_path: Path, nbytes: int
) -> None:
    old, new, last = bytes(nbytes), random.Random(1).randbytes(nbytes), 0
    while True:
        root, disk = tmp_path / str(last), DyingDisk(last)
        survivor = make(root)
        etag = await survivor.create("a/object", old)
        with contextlib.suppress(Killed):
            await make(root, disk=disk).replace("a/object", new, etag=etag)
        found = await survivor.get("a/object")
        assert found.data in (old, new)
        assert (found.data == old) == (found.info.etag == etag)
        await survivor.replace("a/object", b"next", etag=found.info.etag)
        if not disk.dead:
            break
        last += 1
    assert found.data == new
    assert last > 10


async def test_a_process_killed_at_any_call_of_a_delete_leaves_it_to_be_done_again(
    tmp_path: Path,
) -> None:
    last = 0
    while True:
        root, disk = tmp_path / str(last), DyingDisk(last)
        survivor = make(root)
        await survivor.create("a/object", b"x")
        with contextlib.suppress(Killed):
            await make(root, disk=disk).delete("a/object")
        await survivor.delete("a/object")
        assert await listed(survivor) == []
        await survivor.create("a/object", b"anew")
        if not disk.dead:
            break
        last += 1
    assert last > 5
