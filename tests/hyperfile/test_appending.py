"""Appending: what a commit writes, and that it reads back, at every checkpoint."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import AppenderStateError, ContainerExists, NoSuchContainer, fingerprint
from hf_agent.hyperfile.appender import Appender
from hf_agent.hyperfile.checkpoint_build import max_append_bytes
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.reader import Reader
from support.appending import KEY, OTHER_WRITER, WRITER, Bench, append, begin, newest_trailer
from support.golden import GOLDEN, golden_store
from support.memory_store import MemoryStore


async def test_a_new_container_is_one_object_like_the_crates() -> None:
    bench = Bench()
    appender = await bench.create()
    assert list(bench.store.objects) == [f"{KEY}/inode"]
    golden = (GOLDEN / "empty" / "inode").read_bytes()
    assert bench.inode[44:] == golden[44:]
    assert (appender.size, appender.checkpoint, appender.latest_trailer) == (0, 0, None)
    assert appender.fingerprint == fingerprint(bench.created)


async def test_one_append_is_one_object_and_one_swap() -> None:
    bench = Bench()
    appender = await bench.create()
    bench.store.calls.clear()
    result = await append(appender, b"hello", position=5)
    assert [(call.operation, call.key) for call in bench.store.calls] == [
        ("create", f"{KEY}/0000000001.0"),
        ("replace", f"{KEY}/inode"),
    ]
    assert (result.checkpoint, result.size) == (1, 5)
    assert result.uploaded_bytes == len(bench.store.body(f"{KEY}/0000000001.0"))
    assert bench.check() == {1: b"hello"}
    assert await bench.content() == b"hello"


async def test_the_next_append_needs_no_reads_while_its_cache_is_kept() -> None:
    bench = Bench()
    appender = await bench.create()
    await append(appender, bytes(100_000))
    bench.store.calls.clear()
    assert appender.cached_bytes > 0
    await append(appender, b"more")
    assert not bench.store.written("get")
    appender.drop_cache()
    assert appender.cached_bytes == 0
    await append(appender, b"and more")
    assert bench.store.written("get")
    assert bench.check()[3] == bytes(100_000) + b"moreand more"


async def test_a_commit_sets_times_and_counts_blocks() -> None:
    bench = Bench()
    appender = await bench.create()
    bench.clock.now += 12.5
    await append(appender, bytes(9000))
    assert appender.inode.mtime_ns == appender.inode.ctime_ns == int(bench.clock.now * 1e9)
    assert appender.inode.blocks == 3 * 8
    assert appender.inode_bytes == bench.inode


async def test_the_trailer_says_who_wrote_and_how_far() -> None:
    bench = Bench()
    await append(await bench.create(), b"abc", position=703)
    trailer = (await bench.open()).latest_trailer
    assert trailer is not None
    assert (trailer.writer_id, trailer.position, trailer.checkpoint) == (WRITER, 703, 1)


async def test_a_trailer_is_found_below_those_of_other_writers() -> None:
    bench = Bench()
    await append(await bench.create(), b"ours", position=4)
    for round_ in range(5):
        await append(await bench.open(OTHER_WRITER), b"theirs", position=100 + round_)
    appender = await bench.open()
    assert appender.latest_trailer is not None
    assert appender.latest_trailer.writer_id == OTHER_WRITER
    found = await newest_trailer(appender, WRITER)
    assert found is not None
    assert found.position == 4
    assert await newest_trailer(appender, bytes(16)) is None


async def test_a_walk_through_the_history_goes_on_where_an_earlier_one_ended() -> None:
    bench = Bench()
    appender = await bench.create()
    for _ in range(40):
        await append(appender, b"x")
    numbers = [found.header.checkpoint async for found in appender.history()]
    assert numbers == list(range(40, 0, -1))
    assert [found.header.checkpoint async for found in appender.history(7)] == numbers[33:]


async def test_a_checkpoint_without_trailer_has_none() -> None:
    store = golden_store("parted")
    bench = Bench(store=store)
    appender = await Appender.open(
        store, "parted", clock=bench.clock, rng=bench.rng, writer_id=WRITER
    )
    assert appender.latest_trailer is None
    assert await newest_trailer(appender, WRITER) is None


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "parted",
        "parted-64k-blocks",
        "parted-direct-root",
        "parted-parts",
        "parted-partials",
        "parted-sparse-tree",
        "compaction-attached",
        "orphan-commit",
        "orphan-foreign",
        "taken-numbers",
    ],
)
async def test_a_container_of_the_crate_is_continued(name: str) -> None:
    store = golden_store(name)
    before = await content_of(store, name)
    bench = Bench(store=store)
    store.now += 60
    appender = await Appender.open(store, name, clock=bench.clock, rng=bench.rng, writer_id=WRITER)
    expected = before
    for data in (b"x", b"y" * 5000, b"z" * 300_000):
        await append(appender, data)
        expected += data
        assert await content_of(store, name) == expected
    appender = await Appender.open(store, name, clock=bench.clock, rng=bench.rng, writer_id=WRITER)
    assert not store.body(f"{name}/inode")[60] & 8
    assert "hf-compaction" not in store.objects[f"{name}/inode"].metadata
    assert appender.latest_trailer is not None


async def content_of(store: MemoryStore, name: str) -> bytes:
    reader = await Reader.open(store, name)
    return await reader.read(0, reader.size)


async def test_appends_are_packed_densely_into_the_map() -> None:
    bench = Bench()
    appender = await bench.create()
    await append(appender, bytes(4096 * 1000))
    for _ in range(40):
        await append(appender, bytes(4096 * 17))
    bench.check()
    root = bench.inode[104:]
    flags, level, count = struct.unpack_from("<BBH", root)
    # 1680 blocks are 6.6 leaves of 255.
    assert (flags & 1, level, count) == (1, 3, 1)
    appender.drop_cache()
    build = await appender.begin(1)
    assert build.meta_blocks == 2


@pytest.mark.parametrize(
    "size", [n * 4096 + r for n in (3, 6, 255, 3 * 255, 4 * 255) for r in (-1, 0, 1)]
)
async def test_each_shape_of_root_reads_back(size: int) -> None:
    bench = Bench()
    appender = await bench.create()
    data = random.Random(size).randbytes(size)
    await append(appender, data)
    assert bench.check() == {1: data}
    assert await bench.content() == data
    await append(await bench.open(), b"tail")
    assert bench.check() == {1: data, 2: data + b"tail"}


async def test_a_sealed_build_leaves_no_byte_of_its_caller_behind_the_end() -> None:
    bench = Bench(block_size=65536)
    appender = await bench.create()
    build = await begin(appender, b"q" * 65537)
    assert len(build.body) == 65537
    await appender.commit(build, position=65537)
    bench.check()


async def test_creating_twice_with_one_mark_is_one_creation() -> None:
    bench = Bench()
    await bench.create()
    assert (await bench.create()).size == 0


@pytest.mark.parametrize("metadata", [True, False])
async def test_creating_over_another_container_is_refused(metadata: bool) -> None:
    bench = Bench()
    bench.store.supports_metadata = metadata
    await bench.create()
    inode = Appender.prepare_inode(bench.clock.time() + 1, 65536)
    with pytest.raises(ContainerExists):
        await Appender.create(
            bench.store,
            KEY,
            inode,
            clock=bench.clock,
            rng=bench.rng,
            writer_id=WRITER,
            mark="another",
        )


async def test_opening_nothing_says_so() -> None:
    with pytest.raises(NoSuchContainer, match="key=node/stream"):
        await Bench().open()


@pytest.mark.parametrize("size", [0, 1, 2048, 4095, 5000, 1 << 29, 1 << 30, 1 << 31, -4096])
def test_a_block_size_that_the_format_has_not_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="powers of two"):
        Appender.prepare_inode(0.0, size)
    with pytest.raises(ValueError, match="powers of two"):
        Appender.prepare_inode(0.0, 4096, meta_block_size=size)


async def test_an_append_beyond_a_checkpoint_is_refused_before_anything_is_allocated() -> None:
    bench = Bench()
    appender = await bench.create()
    for nbytes in (0, -1, appender.max_append_bytes + 1, 1 << 40):
        with pytest.raises(ValueError, match="limit="):
            await appender.begin(nbytes)
    assert appender.max_append_bytes > 1_060_000_000


@given(st.integers(12, 30), st.integers(12, 30))
def test_the_limit_of_an_append_is_a_whole_number_of_blocks(meta: int, data: int) -> None:
    config = MetaConfig(meta, data, PointerFormat.PARTED)
    assert max_append_bytes(config) % config.data_block_size == 0
    assert 0 <= max_append_bytes(config) < 1 << 30


@pytest.mark.parametrize("block_size", [4096, 65536])
async def test_the_largest_append_fits_its_object(block_size: int) -> None:
    bench = Bench(block_size=block_size)
    appender = await bench.create()
    await append(appender, b"x" * (block_size - 1))
    build = await appender.begin(appender.max_append_bytes)
    assert len(build.object) <= 1 << 30
    assert len(build.object) > (1 << 30) - (1 << 20)


async def test_only_the_last_build_can_be_committed() -> None:
    bench = Bench()
    appender = await bench.create()
    old = await begin(appender, b"old")
    new = await begin(appender, b"new")
    with pytest.raises(AppenderStateError):
        await appender.commit(old, position=3)
    await appender.commit(new, position=3)
    with pytest.raises(AppenderStateError):
        await appender.commit(new, position=3)
    assert bench.check() == {1: b"new"}


@settings(max_examples=25, deadline=None)
@given(
    block_size=st.sampled_from([4096, 65536]),
    sizes=st.lists(
        st.one_of(st.integers(1, 20), st.integers(1, 70_000), st.integers(1, 2_000_000)),
        min_size=1,
        max_size=10,
    ),
    reopen=st.integers(0, 3),
    seed=st.integers(0, 1 << 32),
)
async def test_appends_of_any_size_read_back_at_every_checkpoint(
    block_size: int, sizes: list[int], reopen: int, seed: int
) -> None:
    rng = random.Random(seed)
    bench = Bench(block_size=block_size)
    appender = await bench.create()
    expected = {}
    content = b""
    for size in sizes:
        data = rng.randbytes(size)
        content += data
        result = await append(appender, data)
        expected[result.checkpoint] = content
        if rng.randrange(3) < reopen:
            appender = await bench.open()
        elif rng.randrange(3) == 0:
            appender.drop_cache()
    assert bench.check() == expected
    for number in expected:
        assert await bench.content(number) == expected[number]
