"""Work on a version whose objects are removed meanwhile: as distinct an error as a reader's."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest

from hf_agent.hyperfile import (
    FileOptions,
    HyperFile,
    MissingObject,
    NoSuchCheckpoint,
    StaleVersion,
    copy,
    diff,
    rollback,
)
from hf_agent.hyperfile.appender import Appender
from support.files import KEY, FileBench
from support.memory_store import Call, MemoryStore

BLOCK = 4096
OLD = random.Random(1).randbytes(300 * BLOCK)
"""More blocks than one map node holds: the leaves are in the first checkpoint's object."""
NEW = random.Random(2).randbytes(300 * BLOCK + 17)
FIRST, SECOND, INODE = f"{KEY}/0000000001.0", f"{KEY}/0000000002.0", f"{KEY}/inode"
WRITER = b"w" * 16


async def two_checkpoints() -> FileBench:
    """The second changes one block, and needs the first for all others."""
    bench = FileBench(options=FileOptions(block_size=BLOCK, cache_bytes=0))
    async with await bench.open("x") as file:
        await file.append(OLD)
    async with await bench.open("r+") as file:
        await file.append(b"more")
    return bench


async def overtaken() -> dict[str, bytes]:
    """What the container is once another writer has replaced all of it and removed the rest."""
    bench = await two_checkpoints()
    async with await bench.open("r+") as file:
        await file.pwrite(0, NEW)
    return {key: bench.store.body(key) for key in (f"{KEY}/0000000003.0", INODE)}


def before(store: MemoryStore, when: Callable[[Call], bool], act: Callable[[], None]) -> list[Call]:
    """Have `act` happen once, right before the first call that `when` tells; gives that call."""
    seen: list[Call] = []

    def hook(call: Call) -> None:
        if not seen and when(call):
            seen.append(call)
            act()

    store.before = hook
    return seen


def reads(key: str, *, after: int = 0) -> Callable[[Call], bool]:
    """The read of an object, once it was read `after` times."""
    count = 0

    def when(call: Call) -> bool:
        nonlocal count
        if (call.operation, call.key) != ("get", key):
            return False
        count += 1
        return count > after

    return when


Work = Callable[[FileBench], Awaitable[object]]


async def copied(bench: FileBench, **named: object) -> None:
    target = MemoryStore()
    try:
        await copy(
            *(bench.store, KEY, target, "copy"),
            clock=bench.clock,
            rng=bench.rng,
            **named,  # type: ignore[arg-type]
        )
    finally:
        # Whatever came between: what stands at the target is whole, or nothing.
        if "copy/inode" in target.objects:
            file = await HyperFile.open(target, "copy", clock=bench.clock, rng=bench.rng)
            assert await file.pread(0, file.size) in (OLD + b"more", NEW)


async def copied_at_2(bench: FileBench) -> None:
    await copied(bench, checkpoint=2)


async def copied_whole(bench: FileBench) -> None:
    await copied(bench, checkpoint="history")


async def compared(bench: FileBench) -> object:
    # The second checkpoint is the newest: it is opened first, then the newest by the inode.
    return await diff(bench.store, KEY, 0, None, cache_bytes=0)


async def compared_with_a_checkpoint(bench: FileBench) -> object:
    return await diff(bench.store, KEY, 0, 2, cache_bytes=0)


async def appended(bench: FileBench) -> object:
    appender = await Appender.open(
        bench.store, KEY, clock=bench.clock, rng=bench.rng, writer_id=WRITER
    )
    return await appender.begin(100)


async def rolled_back(bench: FileBench) -> object:
    return await rollback(bench.store, KEY, 1, clock=bench.clock, rng=bench.rng)


WORK: dict[str, tuple[Work, str, int]] = {
    "copy": (copied, FIRST, 0),
    "copy of a checkpoint": (copied_at_2, FIRST, 0),
    "copy of the history": (copied_whole, FIRST, 0),
    "diff": (compared, FIRST, 0),
    "diff with a checkpoint": (compared_with_a_checkpoint, FIRST, 0),
    "begin of an append": (appended, SECOND, 2),
    "open of an appender": (appended, SECOND, 0),
    "trailer at the open of an appender": (appended, SECOND, 1),
    "rollback": (rolled_back, SECOND, 0),
}
"""What is done, and the object before whose read the other writer has been there, and after how
many reads of it."""


@pytest.mark.parametrize("kind", WORK)
async def test_it_tells_that_its_version_was_removed(kind: str) -> None:
    bench, later = await two_checkpoints(), await overtaken()
    work, key, after = WORK[kind]

    def overtake() -> None:
        for key in (FIRST, SECOND):
            del bench.store.objects[key]
        for key, data in later.items():
            bench.store.put(key, data)

    seen = before(bench.store, reads(key, after=after), overtake)
    with pytest.raises(StaleVersion, match="open it again") as caught:
        await work(bench)
    assert seen
    assert caught.value.checkpoint == 2
    assert caught.value.object in (FIRST, SECOND)
    assert isinstance(caught.value.__cause__, MissingObject)


@pytest.mark.parametrize("kind", WORK)
async def test_it_tells_that_the_container_was_removed(kind: str) -> None:
    bench = await two_checkpoints()
    work, key, after = WORK[kind]
    before(bench.store, reads(key, after=after), bench.store.objects.clear)
    with pytest.raises(StaleVersion, match="the container was removed"):
        await work(bench)


@pytest.mark.parametrize("kind", [kind for kind in WORK if "rollback" not in kind])
async def test_an_object_that_is_lost_from_the_newest_version_is_damage(kind: str) -> None:
    bench = await two_checkpoints()
    work, key, after = WORK[kind]

    def lose() -> None:
        del bench.store.objects[key]

    before(bench.store, reads(key, after=after), lose)
    with pytest.raises(MissingObject) as caught:
        await work(bench)
    assert caught.value.object == key


async def test_a_rollback_whose_newest_checkpoint_goes_during_the_walk_is_stale() -> None:
    bench, later = await two_checkpoints(), await overtaken()

    def overtake() -> None:
        for key in (FIRST, SECOND):
            del bench.store.objects[key]
        for key, data in later.items():
            bench.store.put(key, data)

    seen = before(bench.store, reads(SECOND, after=1), overtake)
    with pytest.raises(StaleVersion):
        await rolled_back(bench)
    assert seen


async def test_a_rollback_to_what_was_removed_before_finds_no_such_checkpoint() -> None:
    bench = await two_checkpoints()
    del bench.store.objects[FIRST]
    with pytest.raises(NoSuchCheckpoint):
        await rolled_back(bench)


async def test_a_history_that_is_pruned_before_it_is_listed_is_not_copied_in_part() -> None:
    """The listing then holds nothing that is missing: only the inode would be copied."""
    bench, later = await two_checkpoints(), await overtaken()

    def overtake() -> None:
        for key in (FIRST, SECOND):
            del bench.store.objects[key]
        for key, data in later.items():
            bench.store.put(key, data)

    seen = before(bench.store, lambda call: call.operation == "list", overtake)
    with pytest.raises(StaleVersion):
        await copied_whole(bench)
    assert seen


async def test_an_appender_that_was_overtaken_appends_once_it_is_opened_again() -> None:
    bench, later = await two_checkpoints(), await overtaken()
    named = {"clock": bench.clock, "rng": bench.rng, "writer_id": WRITER}
    appender = await Appender.open(bench.store, KEY, **named)  # type: ignore[arg-type]
    for key in (FIRST, SECOND):
        del bench.store.objects[key]
    for key, data in later.items():
        bench.store.put(key, data)
    with pytest.raises(StaleVersion):
        await appender.begin(4)
    appender = await Appender.open(bench.store, KEY, **named)  # type: ignore[arg-type]
    build = await appender.begin(4)
    build.body[:] = b"last"
    await appender.commit(build, position=4)
    assert await bench.content() == NEW + b"last"
