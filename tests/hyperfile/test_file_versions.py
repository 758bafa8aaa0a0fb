"""Versions of a file: what differs, going back, copying, removing."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import (
    ByteRange,
    ConflictError,
    ContainerExists,
    FileOptions,
    FormatError,
    HyperFile,
    NoSuchCheckpoint,
    NoSuchContainer,
    Reader,
    copy,
    diff,
    list_checkpoints,
    remove,
    rollback,
)
from hf_agent.hyperfile.check import check_structure
from hf_agent.hyperfile.errors import StaleVersion
from hf_agent.hyperfile.file import copying
from hf_agent.store.base import StoreRetry
from hf_agent.store.directory import DirectoryStore
from support.files import KEY, FileBench, fail_at, heal, retry
from support.golden import DOUBTFUL, MANIFEST, checkpoints_of, golden_store
from support.memory_store import Call, MemoryStore

FORMATS = pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])


async def versions(pointer_format: int = 3, **options: Any) -> tuple[FileBench, dict[int, bytes]]:
    """A container with a few checkpoints: written, changed, grown, cut, zeroed."""
    bench = FileBench(
        options=FileOptions(block_size=4096, pointer_format=pointer_format, **options)
    )
    file = await bench.open("x")
    states = {}

    async def flush() -> None:
        bench.clock.now += 10
        result = await file.flush()
        assert result is not None
        states[result.checkpoint] = await file.pread(0, file.size)

    await file.append(random.Random(1).randbytes(1_500_000))
    await flush()
    await file.pwrite(50_000, b"changed")
    await flush()
    await file.pwrite(3_000_000, b"far behind")
    await flush()
    await file.truncate(700_000)
    await flush()
    await file.zero(100_000, 200_000)
    file.set_attributes(mode=0o600)
    await flush()
    await bench.check()
    return bench, states


# -- differences --------------------------------------------------------------------------------


@FORMATS
async def test_a_difference_is_told_in_whole_blocks(pointer_format: int) -> None:
    bench, _ = await versions(pointer_format)
    assert await diff(bench.store, KEY, 1, 2) == [ByteRange(49_152, 53_248)]
    assert await diff(bench.store, KEY, 2, 1) == [ByteRange(49_152, 53_248)]
    # The file has become longer: what is behind its old end is different, data or not.
    assert await diff(bench.store, KEY, 2, 3) == [ByteRange(1_500_000, 3_000_010)]
    assert await diff(bench.store, KEY, 3, 4) == [ByteRange(696_320, 3_000_010)]
    assert await diff(bench.store, KEY, 4) == [ByteRange(98_304, 303_104)]
    assert await diff(bench.store, KEY, 5, 5) == []
    assert await diff(bench.store, KEY, 0, 1) == [ByteRange(0, 1_500_000)]


async def test_a_difference_costs_what_differs_and_not_the_file() -> None:
    bench = FileBench()
    file = await bench.open("x")
    # 20 000 blocks in a map of 80 leaves, in objects that are read node by node.
    for start in range(0, 20_000, 500):
        for index in range(start, start + 500, 10):
            await file.pwrite(index * 40_960, b"x")
        await file.flush()
    await file.pwrite(12_345 * 4096, b"y")
    await file.close()
    bench.store.calls.clear()
    assert await diff(bench.store, KEY, 40, 41) == [ByteRange(12_345 * 4096, 12_346 * 4096)]
    assert len(bench.store.calls) < 25


async def test_a_difference_of_unknown_checkpoints_is_an_error() -> None:
    bench, _ = await versions()
    with pytest.raises(NoSuchCheckpoint):
        await diff(bench.store, KEY, 1, 77)
    with pytest.raises(NoSuchContainer):
        await diff(bench.store, "elsewhere", 0)


@pytest.mark.parametrize("name", [n for n in MANIFEST if len(checkpoints_of(n)) > 1])
async def test_differences_between_checkpoints_of_the_crate(name: str) -> None:
    store = golden_store(name)
    numbers = sorted(map(int, checkpoints_of(name)))
    for a, b in itertools.pairwise(numbers):
        if b > MANIFEST[name]["last_cno"]:
            break
        old = await Reader.open(store, name, checkpoint=a)
        new = await Reader.open(store, name, checkpoint=b)
        left, right = await old.read(0, old.size), await new.read(0, new.size)
        same, at = [], 0
        for start, end in await diff(store, name, a, b):
            same.append((at, start))
            at = end
        same.append((at, max(len(left), len(right))))
        assert all(left[s:e] == right[s:e] for s, e in same)


# -- going back ---------------------------------------------------------------------------------


@FORMATS
async def test_rolling_back_is_a_checkpoint_that_holds_no_data(pointer_format: int) -> None:
    bench, states = await versions(pointer_format)
    for number in (1, 4, 3, 5):
        bench.clock.now += 10
        before = set(bench.store.objects)
        result = await rollback(bench.store, KEY, number, clock=bench.clock, rng=bench.rng)
        assert await bench.content() == states[number]
        (made,) = set(bench.store.objects) - before
        assert len(bench.store.body(made)) == result.uploaded_bytes <= 4096 + 72
        states[result.checkpoint] = states[number]
        mode = (await bench.open("r")).stat().mode
        assert mode == (0o100600 if number == 5 else 0o100644)
        await bench.check()
    assert await bench.numbers() == sorted(states, reverse=True)
    for number, content in states.items():
        assert await bench.content(number) == content
    async with await bench.open("r+") as file:
        await file.append(b"further")
    assert await bench.content() == states[5] + b"further"
    await bench.check()


async def test_only_what_the_file_was_can_be_gone_back_to() -> None:
    bench, states = await versions()
    loser = await bench.open("r+")
    winner = await bench.open("r+")
    await loser.append(b"lost")
    await winner.append(b"won")
    # The loser's checkpoint comes too late, and stays behind under number 6.
    fail_at(bench.store, 0, after=False, error=retry)
    with pytest.raises(StoreRetry):
        await winner.flush()
    heal(bench.store)
    bench.store.put(f"{KEY}/0000000006.0", b"taken by something else")
    await winner.flush()
    del bench.store.objects[f"{KEY}/0000000006.0"]
    with pytest.raises(ConflictError):
        await loser.flush()
    assert f"{KEY}/0000000006.0" in bench.store.objects
    for number in (0, 6, 8, -1, 1 << 31):
        with pytest.raises(NoSuchCheckpoint, match=f"checkpoint={number}"):
            await rollback(bench.store, KEY, number, clock=bench.clock, rng=bench.rng)
    assert await bench.content() == states[5] + b"won"


async def test_a_number_far_above_the_last_one_is_not_looked_for_in_millions_of_requests() -> None:
    """An inode whose last number was damaged, or was taken by a program that leaves gaps, made
    a roll back ask for every number in between."""
    bench, states = await versions()
    inode = bytearray(bench.store.body(f"{KEY}/inode"))
    inode[88:96] = (1 << 29).to_bytes(8, "little")
    bench.store.put(f"{KEY}/inode", bytes(inode))
    async with await bench.open("r+") as file:
        await file.append(b"far above")
    assert max(await bench.numbers()) > 1 << 29
    bench.store.calls.clear()
    await rollback(bench.store, KEY, 3, clock=bench.clock, rng=bench.rng)
    assert await bench.content() == states[3]
    assert len(bench.store.calls) < 200


async def test_rolling_back_needs_a_container_that_can_be_written() -> None:
    bench = FileBench()
    with pytest.raises(NoSuchContainer):
        await rollback(bench.store, KEY, 1, clock=bench.clock, rng=bench.rng)


# -- copying ------------------------------------------------------------------------------------


async def copied(bench: FileBench, target: Any, key: str = "copy", **arguments: Any) -> None:
    await copy(*(bench.store, KEY, target, key), clock=bench.clock, rng=bench.rng, **arguments)


@FORMATS
async def test_a_copy_of_one_state_has_its_content_holes_and_attributes(
    pointer_format: int,
) -> None:
    bench, states = await versions(pointer_format)
    for number in (None, 1, 3, 5):
        target = MemoryStore()
        seen: list[int] = []
        await copied(bench, target, checkpoint=number, progress=seen.append)
        source = await bench.open("r", checkpoint=number)
        file = await HyperFile.open(target, "copy", clock=bench.clock, rng=bench.rng)
        assert await file.pread(0, file.size) == states[number or 5]
        assert [each.number async for each in list_checkpoints(target, "copy")] == [1]
        mine, theirs = file.stat(), source.stat()
        same = replace(theirs, checkpoint=1, ctime_ns=mine.ctime_ns, blocks=mine.blocks)
        assert mine == same
        assert mine.blocks <= theirs.blocks
        assert sum(seen) <= mine.blocks * 512
        assert await check_structure(target, "copy", bases_after=1) == []


async def test_a_copy_can_have_other_blocks_and_another_format() -> None:
    bench, states = await versions()
    target = MemoryStore()
    options = FileOptions(block_size=8192, pointer_format=4)
    await copied(bench, target, options=options)
    file = await HyperFile.open(target, "copy", clock=bench.clock, rng=bench.rng)
    assert await file.pread(0, file.size) == states[5]
    assert (file.stat().block_size, file.stat().pointer_format) == (8192, 4)


async def test_a_copy_larger_than_an_object_of_its_format_takes_several_checkpoints() -> None:
    bench, states = await versions()
    target = MemoryStore()
    options = FileOptions(block_size=4096, pointer_format=1, part_bytes=1_000_000)
    # Chunks are as large as this file: so the bound has to hold within one.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copying, "_CHUNK_BYTES", 100_000)
        await copied(bench, target, checkpoint=1, options=options)
    file = await HyperFile.open(target, "copy", clock=bench.clock, rng=bench.rng)
    assert await file.pread(0, file.size) == states[1]
    assert file.checkpoint > 2


@pytest.mark.parametrize("name", MANIFEST)
async def test_a_copy_with_history_is_the_same_objects(name: str) -> None:
    store, target = golden_store(name), MemoryStore()
    seen: list[int] = []
    clock = FileBench().clock
    await copy(
        *(store, name, target, "to/copy"),
        clock=clock,
        rng=random.Random(1),
        checkpoint="history",
        progress=seen.append,
    )
    reader = await Reader.open(target, "to/copy")
    original = await Reader.open(store, name)
    assert await reader.read(0, reader.size) == await original.read(0, original.size)
    for number in checkpoints_of(name):
        if int(number) <= MANIFEST[name]["last_cno"]:
            old = await Reader.open(target, "to/copy", checkpoint=int(number))
            assert old.size == checkpoints_of(name)[number]["size"]
    for key, stored in target.objects.items():
        if not key.endswith("inode"):
            assert stored.body == store.body(name + key.removeprefix("to/copy"))
    assert sum(seen) == sum(len(stored.body) for stored in target.objects.values())
    assert list(target.objects)[-1] == "to/copy/inode"
    violations = await check_structure(target, "to/copy")
    assert [str(each) for each in violations if each.certain] == []
    doubtful = [f"{each.object.removeprefix('to/copy/')}: {each.rule}" for each in violations]
    assert doubtful == DOUBTFUL.get(name, [])


async def test_large_objects_are_copied_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_IN_MEMORY_BYTES", 100_000)
    monkeypatch.setattr(copying, "_CHUNK_BYTES", 30_000)
    bench, states = await versions()
    target = MemoryStore()
    await copied(bench, target, checkpoint="history")
    reader = await Reader.open(target, "copy")
    assert await reader.read(0, reader.size) == states[5]


async def test_copies_go_to_where_nothing_is() -> None:
    bench, states = await versions()
    for what in (None, "history"):
        with pytest.raises(ContainerExists):
            await copied(bench, bench.store, KEY, checkpoint=what)
    assert await bench.content() == states[5]
    target = MemoryStore()
    for source, checkpoint, error in (
        ("nowhere", None, NoSuchContainer),
        ("nowhere", "history", NoSuchContainer),
        (KEY, 77, NoSuchCheckpoint),
    ):
        with pytest.raises(error):
            await copy(
                *(bench.store, source, target, "copy"),
                clock=bench.clock,
                rng=bench.rng,
                checkpoint=checkpoint,  # type: ignore[arg-type]
            )
    assert not target.objects


async def test_a_copy_with_history_that_was_interrupted_can_be_done_again() -> None:
    for position in range(20):
        bench, states = await versions()
        target = MemoryStore()
        came = fail_at(target, position, after=bool(position % 2), error=retry)
        try:
            await copied(bench, target, checkpoint="history")
        except StoreRetry:
            heal(target)
            if "copy/inode" not in target.objects:
                await copied(bench, target, checkpoint="history")
        reader = await Reader.open(target, "copy")
        assert await reader.read(0, reader.size) == states[5]
        if not came():
            return
    pytest.fail("there are not that many writes")


async def test_a_copy_of_a_state_that_failed_leaves_no_container() -> None:
    bench, _ = await versions()
    target = MemoryStore()

    def refuse(call: Call) -> None:
        if call.operation == "create" and not call.key.endswith("inode"):
            raise StoreRetry("full")

    target.before = refuse
    with pytest.raises(StoreRetry, match="full"):
        await copied(bench, target)
    assert not target.objects


async def test_copies_move_between_stores(tmp_path: Path) -> None:
    bench, states = await versions()
    store = DirectoryStore(tmp_path / "store", clock=SystemClock(), rng=random.Random(1))
    try:
        await copied(bench, store, checkpoint="history")
        await copy(*(store, "copy", store, "again"), clock=bench.clock, rng=bench.rng, checkpoint=3)
        file = await HyperFile.open(store, "again", clock=bench.clock, rng=bench.rng)
        assert await file.pread(0, file.size) == states[3]
    finally:
        await store.close()


# -- removing -----------------------------------------------------------------------------------


async def test_removing_takes_the_container_and_nothing_else() -> None:
    bench, _ = await versions()
    bench.store.put(f"{KEY}/notes.txt", b"not ours")
    bench.store.put(f"{KEY}/inner/inode", bench.store.body(f"{KEY}/inode"))
    bench.store.put(f"{KEY}/inner/0000000001.0", b"another container")
    bench.store.put(f"{KEY}-2/inode", bench.store.body(f"{KEY}/inode"))
    assert await remove(bench.store, KEY) == 6
    assert sorted(bench.store.objects) == [
        *(f"{KEY}-2/inode", f"{KEY}/inner/0000000001.0", f"{KEY}/inner/inode", f"{KEY}/notes.txt")
    ]
    with pytest.raises(NoSuchContainer):
        await remove(bench.store, KEY)


async def test_the_inode_goes_first() -> None:
    bench, _ = await versions()
    reader = await bench.open("r")
    writer = await bench.open("r+")
    await writer.truncate(0)
    await remove(bench.store, KEY)
    assert bench.store.written("delete")[0] == f"{KEY}/inode"
    with pytest.raises(NoSuchContainer):
        await writer.flush()
    with pytest.raises(StaleVersion, match="the container was removed: open it again"):
        await reader.pread(500_000, 10)
    assert f"{KEY}/inode" not in bench.store.objects
    # What the writer left behind is taken away by a second call.
    await remove(bench.store, KEY)
    assert not bench.store.objects


async def test_a_removal_that_was_interrupted_is_finished_by_another() -> None:
    for position in range(20):
        bench, _ = await versions()
        came = fail_at(bench.store, position, after=bool(position % 2), error=retry)
        try:
            await remove(bench.store, KEY)
        except StoreRetry:
            heal(bench.store)
            if position:
                with pytest.raises(NoSuchContainer):
                    await bench.open("r")
            if bench.store.objects:
                await remove(bench.store, KEY)
        assert not bench.store.objects
        if not came():
            return
    pytest.fail("there are not that many writes")


async def test_a_container_made_meanwhile_is_left_alone() -> None:
    bench, _ = await versions()
    inode = bench.store.body(f"{KEY}/inode")

    def make_another(call: Call) -> None:
        if call.operation == "list":
            bench.store.before = lambda call: None
            bench.store.put(f"{KEY}/inode", inode)

    bench.store.before = make_another
    assert await remove(bench.store, KEY) == 1
    assert len(bench.store.objects) == 6


async def test_something_that_is_no_container_is_not_removed() -> None:
    store = MemoryStore()
    store.put("k/inode", b"a file that is called inode")
    with pytest.raises(FormatError, match="160 bytes"):
        await remove(store, "k")
    assert list(store.objects) == ["k/inode"]
