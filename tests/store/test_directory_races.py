"""Processes race on one key of the directory store, killed and stopped between any two calls.

Whatever happens, what every process was told is explained by some order of whole operations: one
winner, no torn object, nothing undone. And the key is never stuck.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile.appender import Appender
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import StoreConflict
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.directory_files import ObjectFiles
from hf_agent.store.disk import OsDisk
from hf_agent.store.ranges import ByteRange
from support.appending import append
from support.stepped_writer import LockedByNobody, SteppedWriter, WriterServer, perform
from support.store_operations import KEY, Operation, Outcome, explained

SMALL, LARGE = 160, 70_000
ROUNDS = int(os.environ.get("HF_RACE_ROUNDS", "25"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WriterServer]:
    with WriterServer(tmp_path_factory.mktemp("writers")) as server:
        yield server


def files(root: Path) -> ObjectFiles:
    return ObjectFiles(str(root), clock=SystemClock(), rng=random.Random(5), disk=OsDisk())


def content(root: Path) -> bytes | None:
    path = root / KEY
    return path.read_bytes() if path.exists() else None


class Scene:
    """A key with a content or none, and the operations that meet on it."""

    def __init__(self, root: Path, kinds: tuple[str, ...], size: int) -> None:
        self.root = root
        self.before: bytes | None = None
        etag = ""
        if "replace" in kinds or "delete" in kinds:
            self.before = b"o" * size
            etag = files(root).create(KEY, [memoryview(self.before)])
        else:
            root.mkdir()
        self.operations = [
            Operation(kind, bytes([97 + place]) * size, self.before or b"", etag, seed=place)
            for place, kind in enumerate(kinds)
        ]

    def check(self, *outcomes: Outcome | None) -> None:
        """All of it is explained, and the key can be written to again."""
        after = content(self.root)
        happened = list(zip(self.operations, outcomes, strict=True))
        assert explained(self.before, after, happened), (
            [(each.kind, outcome) for each, outcome in happened],
            after and after[:10],
        )
        survivor = files(self.root)
        if after is None:
            survivor.create(KEY, [memoryview(b"next")])
        else:
            found = survivor.read(KEY, ByteRange(0, 0), None).info
            survivor.replace(KEY, [memoryview(b"next")], found.etag)
        assert content(self.root) == b"next"


PAIRS = [
    ("create", "create"),
    ("replace", "replace"),
    ("replace", "delete"),
    ("delete", "replace"),
    ("delete", "delete"),
    ("create", "delete"),
]

CASES = [*((pair, SMALL) for pair in PAIRS), (("replace", "replace"), LARGE)]


def stop_points(
    server: WriterServer, folder: Path, pair: tuple[str, str], size: int, *, locks: bool = True
) -> Iterator[tuple[Scene, SteppedWriter]]:
    """A new scene for each call of the first operation, with a writer about to make that call."""
    place = 0
    while True:
        scene = Scene(folder / str(place), pair, size)
        writer = server.start(scene.operations[0], scene.root, locks=locks)
        for _ in range(place):
            writer.step()
        if writer.is_over:
            writer.close()
            assert place > 5, "there are calls to stop at"
            return
        yield scene, writer
        writer.close()
        place += 1


@pytest.mark.parametrize(("pair", "size"), CASES, ids=str)
def test_a_writer_killed_at_any_call_leaves_the_key_to_the_next_one(
    server: WriterServer, tmp_path: Path, pair: tuple[str, str], size: int
) -> None:
    for scene, writer in stop_points(server, tmp_path, pair, size):
        writer.kill()
        outcome = perform(scene.operations[1], str(scene.root))
        assert outcome != "busy", f"the lock of a dead process is free, killed at {writer.call}"
        scene.check(None, outcome)


@pytest.mark.parametrize(("pair", "size"), CASES, ids=str)
def test_a_writer_stopped_at_any_call_undoes_nothing_when_it_goes_on(
    server: WriterServer, tmp_path: Path, pair: tuple[str, str], size: int
) -> None:
    outcomes = set()
    for scene, writer in stop_points(server, tmp_path, pair, size):
        writer.stop()
        second = perform(scene.operations[1], str(scene.root))
        meanwhile = content(scene.root)
        writer.resume()
        first = writer.finish()
        if second == "ok" and pair == ("replace", "replace"):
            assert first == "StoreConflict"
            assert content(scene.root) == meanwhile, "what was committed meanwhile stays"
        outcomes.add((first, second))
        scene.check(first, second)
    if pair == ("replace", "replace"):
        assert outcomes == {("StoreConflict", "ok"), ("ok", "busy")}, "before the lock, and with it"


def test_three_writers_in_any_order_of_their_calls_with_deaths_and_stops(
    server: WriterServer, tmp_path: Path
) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    dead = 0
    for number in range(ROUNDS):
        kinds = tuple(rng.choices(("create", "replace", "delete"), (1, 3, 1), k=3))
        scene = Scene(tmp_path / str(number), kinds, rng.choice((SMALL, LARGE)))
        writers = [server.start(each, scene.root) for each in scene.operations]
        while under_way := [writer for writer in writers if not writer.is_over]:
            writer = rng.choice(under_way)
            event = rng.random()
            if event < 0.02:
                writer.kill()
                dead += 1
            elif event < 0.05:
                writer.stop()
                for other in under_way:
                    if other is not writer:
                        for _ in range(rng.randrange(20)):
                            if not other.is_over:
                                other.step()
                writer.resume()
            else:
                writer.step()
        outcomes = [writer.outcome for writer in writers]
        for writer in writers:
            writer.close()
        scene.check(*outcomes)
    assert dead, "nobody was killed"


def test_locks_that_keep_nobody_off_are_found_by_these_tests(
    server: WriterServer, tmp_path: Path
) -> None:
    wrong = 0
    for scene, writer in stop_points(server, tmp_path, ("replace", "replace"), SMALL, locks=False):
        second = perform(scene.operations[1], str(scene.root), LockedByNobody())
        first = writer.finish()
        happened = list(zip(scene.operations, (first, second), strict=True))
        wrong += not explained(scene.before, content(scene.root), happened)
    assert wrong > 3, "between comparing and renaming there are several calls"


class LeaseLost(LockedByNobody):
    """A disk whose locks keep nobody off, and whose renames of inodes wait for a word.

    As on a network file system whose server has given a stopped client's lock to somebody else.
    """

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def before(self, name: str, *args: Any) -> None:
        if name == "rename" and args[1].endswith("/inode"):
            self.reached.set()
            assert self.go_on.wait(60)


async def test_an_inode_put_back_by_a_writer_without_its_lock_is_rolled_forward(
    tmp_path: Path,
) -> None:
    """The lock is not what a commit rests on: the objects that are only created decide."""

    def store(disk: OsDisk) -> DirectoryStore:
        return DirectoryStore(tmp_path, clock=SystemClock(), rng=random.Random(3), disk=disk)

    common: dict[str, Any] = {"clock": SystemClock(), "rng": random.Random(4)}
    held = LeaseLost()
    created = Appender.prepare_inode(common["clock"].time(), 4096)
    first = await Appender.create(
        store(held), "log", created, writer_id=bytes(16), mark="creation", **common
    )
    late = asyncio.create_task(append(first, b"one "))
    await asyncio.to_thread(held.reached.wait, 60)
    other = store(OsDisk())
    second = await Appender.open(other, "log", writer_id=bytes(range(16)), **common)
    await append(second, b"two ")
    committed = (await other.get("log/inode")).data
    held.go_on.set()
    try:
        await late
    except StoreConflict:
        pass
    assert (await other.get("log/inode")).data != committed, "the old inode is back"
    reader = await Reader.open(other, "log")
    assert await reader.read(0, reader.size) == b"one two "
    third = await Appender.open(other, "log", writer_id=bytes(range(16)), **common)
    await append(third, b"three")
    reader = await Reader.open(other, "log")
    assert await reader.read(0, reader.size) == b"one two three"
