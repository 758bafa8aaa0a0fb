"""One cache folder under several real processes: whatever happens to it, the bytes are right."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hf_agent import hyperfile

CONTENT = random.Random(1).randbytes(6 << 20)
DISK_BYTES = 2 << 20
"""A third of the content: chunks are evicted all the time."""
AMPLE = 64 << 20
CHUNK = 64 << 10
READS = int(os.environ.get("HF_AGENT_CACHE_READS", "80"))

READER = """
import json, os, random, signal, sys
from pathlib import Path
from hf_agent import hyperfile
from hf_agent.hyperfile.cache import CacheOptions
from hf_agent.store.directory import DirectoryStore

uri, expected, folder, disk_bytes, seed, reads, die_at = json.loads(sys.argv[1])
content, fetched, replaced = Path(expected).read_bytes(), 0, 0
get, replace = DirectoryStore.get, Path.replace

async def counted(self, key, **named):
    global fetched
    answer = await get(self, key, **named)
    fetched += len(answer.data)
    return answer

def dying(self, target):
    global replaced
    if str(target).endswith(".chunk"):
        replaced += 1
        if replaced == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)

DirectoryStore.get, Path.replace = counted, dying
caches = CacheOptions(memory_bytes=0, directory=folder, disk_bytes=disk_bytes)
rng = random.Random(seed)
with hyperfile.open(uri, caches=caches, read_ahead_bytes=0, cache_bytes=0) as file:
    print("open", flush=True)
    for number in range(reads):
        start = rng.randrange(len(content))
        length = rng.choice([1, 100, 5000, 70_000, 300_000, 1_500_000])
        file.seek(start)
        got = file.read(length)
        want = content[start : start + length]
        assert got == want[: len(got)] and len(got) == len(want), (seed, number, start, length)
        print(number, flush=True)
print(json.dumps({"fetched": fetched}), flush=True)
"""


@dataclass
class Readers:
    """Starts processes that read at random and compare; ends what is left of them."""

    folder: Path
    uri: str
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def start(
        self, seed: int, *, disk_bytes: int = DISK_BYTES, reads: int = READS, die_at: int = 0
    ) -> subprocess.Popen[str]:
        arguments = [
            *(self.uri, str(self.folder / "content"), str(self.cache)),
            *(disk_bytes, seed, reads, die_at),
        ]
        process = subprocess.Popen(
            [sys.executable, "-c", READER, json.dumps(arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        return process

    def chunks(self) -> list[Path]:
        return list(self.cache.glob("??/*.chunk"))

    def held(self) -> int:
        return sum(each.stat().st_size for each in self.chunks())


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a reader that has compared everything says at its end."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[Readers]:
    uri = f"file:{tmp_path}/store/log"
    with hyperfile.open(uri, "x", part_bytes=1 << 20) as file:
        file.write(CONTENT)
    (tmp_path / "content").write_bytes(CONTENT)
    readers = Readers(tmp_path, uri)
    yield readers
    for process in readers.running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_what_one_process_fetched_the_next_does_not(readers: Readers) -> None:
    first = result(readers.start(1, disk_bytes=AMPLE))["fetched"]
    assert first > len(CONTENT) // 2
    # Of each object, the header alone is asked for: it tells which version of it there is.
    assert result(readers.start(1, disk_bytes=AMPLE))["fetched"] < first // 4


def test_processes_that_fill_and_evict_side_by_side_stay_within_the_bound(
    readers: Readers,
) -> None:
    for process in [readers.start(seed) for seed in range(3)]:
        assert result(process)["fetched"] > 0
    # Each makes room after a sixteenth.
    assert 0 < readers.held() <= DISK_BYTES * (1 + 3 / 16) + 3 * CHUNK
    assert not list(readers.cache.glob("??/*.partial"))


def damage(readers: Readers, rng: random.Random) -> bool:
    """Flip, cut, lengthen or empty an entry that is there, or put one in another's place."""
    chunks = readers.chunks()
    if len(chunks) < 2:
        return False
    path, other = rng.sample(chunks, 2)
    with suppress(OSError):  # evicted meanwhile
        held = bytearray(path.read_bytes())
        kind = rng.randrange(5)
        if kind == 0 and held:
            held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del held[rng.randrange(len(held) + 1) :]
        elif kind == 2:
            held += b"more"
        elif kind == 3:
            held.clear()
        else:
            held = bytearray(other.read_bytes())
        # In place: a reader may be in the middle of it.
        with path.open("r+b") as file:
            file.write(held)
            file.truncate(len(held))
        return True
    return False


def delete(readers: Readers, rng: random.Random) -> bool:
    """The whole folder, with what is just being written."""
    if not readers.chunks():
        return False
    shutil.rmtree(readers.cache, ignore_errors=True)
    return True


@pytest.mark.parametrize("disturb", [damage, delete])
def test_the_bytes_are_right_while_the_folder_is_disturbed(
    readers: Readers, disturb: Callable[[Readers, random.Random], bool]
) -> None:
    rng, times = random.Random(7), 0
    processes = [readers.start(seed, disk_bytes=AMPLE) for seed in range(2)]
    for process in processes:
        assert process.stdout is not None
        for line in process.stdout:
            # After each read of this process; the other one goes on meanwhile.
            times += disturb(readers, rng)
            if line.startswith("{"):
                break
    assert [process.wait(timeout=300) for process in processes] == [0, 0], [
        process.stderr.read() if process.stderr else "" for process in processes
    ]
    assert times > 10


def test_a_process_killed_in_the_middle_of_a_fill_leaves_nothing_that_is_read(
    readers: Readers,
) -> None:
    killed = [readers.start(seed, disk_bytes=AMPLE, die_at=seed * 3) for seed in (1, 2, 3)]
    for process in killed:
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
    # Written, and never given its name.
    assert len(list(readers.cache.glob("??/*.partial"))) == 3
    for process in [readers.start(seed, disk_bytes=AMPLE) for seed in (8, 9)]:
        result(process)


def test_processes_killed_at_any_moment_leave_nothing_that_is_wrong(readers: Readers) -> None:
    rng = random.Random(3)
    survivor = readers.start(0)
    for seed in range(1, 4):
        process = readers.start(seed)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 12)):
            process.stdout.readline()
        process.kill()
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
    result(survivor)
    result(readers.start(9))
