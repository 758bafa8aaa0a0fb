"""A writer's opening: half-done commits are finished once their writer is taken for dead."""

from __future__ import annotations

import pytest

from hf_agent.hyperfile import ReadOnlyLayout
from hf_agent.hyperfile.appender import Appender
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import StoreRetry
from support.appending import KEY, OTHER_WRITER, WRITER, Bench, append, begin, fail_once, run_once
from support.golden import MANIFEST, golden_store
from support.memory_store import MemoryStore


async def open_golden(store: MemoryStore, name: str, bench: Bench) -> Appender:
    return await Appender.open(store, name, clock=bench.clock, rng=bench.rng, writer_id=WRITER)


async def half_done(bench: Bench, writer: bytes, data: bytes) -> Appender:
    """A commit whose writer stops between checkpoint and inode."""
    appender = await bench.open(writer)
    fail_once(bench.store, "replace", "/inode", after=False)
    build = await begin(appender, data)
    with pytest.raises(StoreRetry):
        await appender.commit(build, position=len(data))
    bench.store.before = lambda call: None
    return appender


async def test_a_commit_of_the_crate_is_finished_before_anything_else() -> None:
    store, bench = golden_store("orphan-commit"), Bench()
    store.now += 5.1
    appender = await open_golden(store, "orphan-commit", bench)
    assert not bench.clock.slept
    assert appender.checkpoint == 4
    # Byte for byte what the commit's own writer would have stored.
    assert store.body("orphan-commit/inode") == store.body("orphan-commit/0000000004.0")[24:184]
    assert "hf-write" in store.objects["orphan-commit/inode"].metadata


async def test_the_compaction_bit_of_a_half_done_commit_is_not_published() -> None:
    store, bench = golden_store("orphan-commit"), Bench()
    store.now += 60
    commit = store.body("orphan-commit/0000000004.0")
    store.objects["orphan-commit/0000000004.0"].body = commit[:84] + b"\x08" + commit[85:]
    await open_golden(store, "orphan-commit", bench)
    assert store.body("orphan-commit/inode") == commit[24:184]


async def test_a_young_commit_of_somebody_else_is_waited_for() -> None:
    store, bench = golden_store("orphan-commit"), Bench()
    before = store.body("orphan-commit/inode")
    looks: list[bool] = []

    def pass_time(seconds: float) -> None:
        looks.append(store.body("orphan-commit/inode") == before)
        store.now += seconds

    bench.clock.on_sleep = pass_time
    appender = await open_golden(store, "orphan-commit", bench)
    assert bench.clock.slept == [1.0] * 6
    assert looks == [True] * 6
    assert appender.checkpoint == 4


async def test_a_writer_that_was_alive_after_all_finishes_its_own_commit() -> None:
    bench = Bench()
    await bench.create()
    other = await half_done(bench, OTHER_WRITER, b"theirs")
    build = other._build
    assert build is not None

    def finish(seconds: float) -> None:
        bench.store.put(f"{KEY}/inode", build.inode_bytes)

    bench.clock.on_sleep = finish
    appender = await bench.open()
    assert bench.clock.slept == [1.0]
    assert (appender.checkpoint, appender.size) == (1, 6)
    # The only swap of the inode was theirs.
    assert bench.store.written("replace") == [f"{KEY}/inode"]


async def test_an_own_commit_is_finished_at_once() -> None:
    bench = Bench()
    await bench.create()
    await half_done(bench, WRITER, b"ours")
    appender = await bench.open()
    assert not bench.clock.slept
    assert appender.latest_trailer is not None
    assert appender.latest_trailer.position == 4
    assert bench.check() == {1: b"ours"}


async def test_losing_the_race_to_finish_a_commit_is_no_error() -> None:
    bench = Bench()
    await bench.create()
    writer = await half_done(bench, WRITER, b"ours")
    build = writer._build
    assert build is not None
    run_once(
        bench.store,
        "replace",
        "/inode",
        lambda: bench.store.put(f"{KEY}/inode", build.inode_bytes),
    )
    assert (await bench.open()).checkpoint == 1
    assert bench.check() == {1: b"ours"}


async def test_a_container_that_never_comes_to_rest_is_left_for_later() -> None:
    store, bench = golden_store("orphan-commit"), Bench()
    with pytest.raises(StoreRetry, match="other writers"):
        await open_golden(store, "orphan-commit", bench)
    assert len(bench.clock.slept) > 60


async def test_several_half_done_commits_are_rolled_through_at_once() -> None:
    bench = Bench()
    created = (await bench.create()).inode_bytes
    for number in range(1, 4):
        await append(await bench.open(OTHER_WRITER), b"x" * number)
    bench.store.put(f"{KEY}/inode", created)
    reader = await Reader.open(bench.store, KEY)
    assert reader.size == 6
    assert bench.inode == created, "a reader writes nothing"
    bench.store.now += 6
    appender = await bench.open()
    assert appender.checkpoint == 3
    assert bench.check()[3] == b"xxxxxx"


@pytest.mark.parametrize("name", ["flat", "micro-group", "stream", "stream-parts"])
async def test_a_container_of_another_format_is_refused_and_left_alone(name: str) -> None:
    store = golden_store(name)
    with pytest.raises(ReadOnlyLayout, match="appends only to containers of format 3"):
        await open_golden(store, name, Bench())
    assert not store.written("replace") + store.written("create")


async def test_a_container_of_the_02_crate_is_refused_and_left_alone() -> None:
    store = golden_store("legacy-02")
    with pytest.raises(ReadOnlyLayout, match=r"hyperfile 0\.2"):
        await open_golden(store, "legacy-02", Bench())
    assert not store.written("replace") + store.written("create")


async def test_an_inline_container_reads_and_is_not_appended_to() -> None:
    inode = bytearray(golden_store("empty").body("empty/inode"))
    inode[60] |= 1
    inode[72] = 5
    inode[80:85] = b"hello"
    store = MemoryStore()
    store.put("small/inode", bytes(inode))
    reader = await Reader.open(store, "small")
    assert await reader.read(0, 100) == b"hello"
    assert await reader.read(1, 3) == b"ell"
    with pytest.raises(ReadOnlyLayout, match="inline"):
        await open_golden(store, "small", Bench())


@pytest.mark.parametrize(("name", "next_number"), [("orphan-foreign", 5), ("taken-numbers", 7)])
async def test_taken_numbers_are_skipped_at_opening(name: str, next_number: int) -> None:
    store = golden_store(name)
    appender = await open_golden(store, name, Bench())
    assert not store.written("replace")
    assert (await append(appender, b"x")).checkpoint == next_number
    reader = await Reader.open(store, name)
    assert reader.size == MANIFEST[name]["size"] + 1
    assert reader.inode.last_seq == reader.inode.last_cno == next_number


async def test_a_container_whose_blocks_fit_no_checkpoint_is_refused() -> None:
    inode = bytearray(golden_store("empty").body("empty/inode"))
    inode[45] = 30
    store = MemoryStore()
    store.put("huge/inode", bytes(inode))
    with pytest.raises(ReadOnlyLayout, match="too large"):
        await open_golden(store, "huge", Bench())
