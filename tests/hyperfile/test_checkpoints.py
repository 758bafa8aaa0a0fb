"""Listing a container's checkpoints, finding one by time, listing containers."""

from __future__ import annotations

import struct

import pytest

from hf_agent.hyperfile import (
    NoSuchContainer,
    checkpoint_at,
    list_checkpoints,
    list_containers,
    stat_container,
)
from hf_agent.hyperfile.checkpoints import Checkpoint
from support.appending import KEY, OTHER_WRITER, Bench, append, begin
from support.container_check import with_compaction
from support.golden import MANIFEST, checkpoints_of, golden_store
from support.memory_store import MemoryStore


async def listed(store: MemoryStore, key: str) -> list[Checkpoint]:
    return [checkpoint async for checkpoint in list_checkpoints(store, key)]


@pytest.mark.parametrize("name", [name for name in MANIFEST if name != "legacy-02"])
async def test_the_checkpoints_of_the_crate_are_listed_newest_first(name: str) -> None:
    found = await listed(golden_store(name), name)
    expected = {
        int(number): entry["size"]
        for number, entry in checkpoints_of(name).items()
        if int(number) <= MANIFEST[name]["last_cno"]
    }
    assert [(item.number, item.size) for item in found] == sorted(expected.items(), reverse=True)
    times = [item.time for item in found]
    assert times == sorted(times, reverse=True)


async def test_the_checkpoints_of_the_02_crate_are_listed() -> None:
    found = await listed(golden_store("legacy-02"), "legacy-02")
    assert [item.number for item in found] == [6, 5, 4, 3, 2, 1]


async def test_changed_blocks_are_counted_over_all_parts() -> None:
    found = {
        item.number: item for item in await listed(golden_store("parted-parts"), "parted-parts")
    }
    assert found[1].changed_blocks == 14 + 12
    assert found[3].changed_blocks == 14 + 15 + 15 + 1
    assert found[6].changed_blocks == 5
    stream = {
        item.number: item for item in await listed(golden_store("stream-parts"), "stream-parts")
    }
    assert stream[5].changed_blocks == 1 + 44 + 25


async def test_a_compactors_part_is_not_counted() -> None:
    name = "compaction-attached"
    assert (await listed(golden_store(name), name))[0].changed_blocks == 21


async def test_checkpoints_of_writers_that_lost_are_left_out() -> None:
    bench = Bench()
    await bench.create()
    loser = await bench.open(OTHER_WRITER)
    lost = await begin(loser, b"lost")
    for number in range(3):
        appender = await bench.open()
        if number == 1:
            # Built on an older state, and created under the next number.
            lost.seal(
                number=2, base=loser.fingerprint, now_ns=0, writer_id=OTHER_WRITER, position=4
            )
            bench.store.put(f"{KEY}/0000000002.0", bytes(lost.object))
            appender = await bench.open()
        await append(appender, b"x")
    assert [item.number for item in await listed(bench.store, KEY)] == [4, 3, 1]


async def test_an_inode_changed_without_a_checkpoint_does_not_end_the_list() -> None:
    bench = Bench()
    await append(await bench.create(), b"one")
    inode = bench.inode
    bench.store.put(f"{KEY}/inode", inode[:72] + struct.pack("<Q", 9000) + inode[80:])
    appender = await bench.open()
    assert appender.latest_trailer is not None, "the newest checkpoint is still ours"
    assert appender.size == 9000
    await append(appender, b"two")
    assert [item.number for item in await listed(bench.store, KEY)] == [2, 1]
    assert await bench.content() == b"one" + bytes(8997) + b"two"


async def test_a_removed_checkpoint_does_not_end_the_list() -> None:
    bench = Bench()
    appender = await bench.create()
    for _ in range(90):
        await append(appender, b"x" * 4096)
    for number in (3, *range(10, 80)):
        del bench.store.objects[f"{KEY}/{number:010d}.0"]
    expected = [*range(90, 79, -1), *range(9, 3, -1), 2, 1]
    assert [item.number for item in await listed(bench.store, KEY)] == expected


async def test_the_checkpoint_of_a_moment_is_the_newest_before_it() -> None:
    bench = Bench()
    appender = await bench.create()
    start = bench.clock.now
    for _ in range(200):
        bench.clock.now += 10
        await append(appender, b"x")
    for number in (0, 1, 2, 99, 150, 199, 200):
        bench.store.calls.clear()
        found = await checkpoint_at(bench.store, KEY, start + 10 * number + 5)
        assert (found.number if found else 0) == number
        assert len(bench.store.written("get")) < 120
    exact = await checkpoint_at(bench.store, KEY, start + 10 * 77)
    assert exact is not None
    assert exact.number == 77


async def test_the_checkpoint_of_a_moment_is_never_one_that_lost() -> None:
    store = golden_store("orphan-foreign")
    found = await checkpoint_at(store, "orphan-foreign", 1e12)
    assert found is not None
    assert found.number == 3
    assert await checkpoint_at(golden_store("empty"), "empty", 1e12) is None


async def test_containers_are_listed_by_their_inodes() -> None:
    store = MemoryStore()
    for key in ("a/one", "a/two", "b/three", "a"):
        for name, stored in golden_store("parted").objects.items():
            store.put(name.replace("parted", key), stored.body)
    store.put("a/notes/inode", b"something else")
    store.put("a/inode.tmp", bytes(160))
    store.put("inode", bytes(160))
    assert {key async for key in list_containers(store)} == {"a", "a/one", "a/two", "b/three"}
    assert {key async for key in list_containers(store, "a/")} == {"a/one", "a/two"}


async def test_a_container_is_described() -> None:
    stat = await stat_container(golden_store("orphan-commit"), "orphan-commit")
    assert (stat.size, stat.checkpoint, stat.last_number) == (300_000, 4, 4)
    assert (stat.pointer_format, stat.block_size, stat.layout) == (3, 4096, "current")
    assert (stat.blocks, stat.unfinished_commits) == (44, 1)
    assert not stat.compaction_attached
    stat = await stat_container(golden_store("compaction-attached"), "compaction-attached")
    assert stat.compaction_attached
    stat = await stat_container(golden_store("legacy-02"), "legacy-02")
    assert stat.layout == "0.2"
    with pytest.raises(NoSuchContainer):
        await stat_container(MemoryStore(), "nothing")


async def test_history_goes_through_an_attached_compaction() -> None:
    bench = Bench()
    await append(await bench.create(), b"one")
    bench.store.put(f"{KEY}/inode", with_compaction(bench.inode), {"hf-compaction": "v1"})
    await append(await bench.open(), b"two")
    assert [item.number for item in await listed(bench.store, KEY)] == [2, 1]
