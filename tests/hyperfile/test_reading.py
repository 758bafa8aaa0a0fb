"""How the reader asks the store, what it keeps, and what damage it notices."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing

import pytest

from hf_agent.hyperfile import (
    ChecksumError,
    FormatError,
    NoSuchCheckpoint,
    NoSuchContainer,
    StaleVersion,
)
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import StoreRetry
from support.appending import KEY, Bench, append
from support.damage import flip, without_checksums
from support.golden import golden_store
from support.memory_store import Call, MemoryStore

FIRST = f"{KEY}/0000000001.0"


async def written(*sizes: int, block_size: int = 4096) -> tuple[Bench, bytes]:
    bench = Bench(block_size=block_size)
    appender = await bench.create()
    content = b""
    for number, size in enumerate(sizes):
        data = random.Random(number).randbytes(size)
        await append(appender, data)
        content += data
    bench.store.calls.clear()
    return bench, content


def ranges(store: MemoryStore, key: str = FIRST) -> list[tuple[int, int]]:
    """Ranges of an object that were asked for, in order, without the header's."""
    found = [call.ranged for call in store.calls if call.operation == "get" and call.key == key]
    return [(start, end) for start, end, _ in found if start and end is not None]


def damage(store: MemoryStore, key: str, offset: int) -> None:
    flip(store, key, 8 * offset)


def data_offset(store: MemoryStore, key: str = FIRST) -> int:
    body = store.body(key)
    s_bytes = int.from_bytes(body[8:12], "little")
    return -(-s_bytes // 4096) * 4096 + 4096 * int.from_bytes(body[200:204], "little")


async def test_blocks_that_lie_side_by_side_come_in_one_request() -> None:
    bench, content = await written(3_000_000)
    reader = await Reader.open(bench.store, KEY)
    assert await reader.read(5000, 2_900_000) == content[5000:2_905_000]
    first = data_offset(bench.store)
    # Whole blocks, since they have checksums.
    assert ranges(bench.store)[-1] == (first + 4096, first + 4096 * 710)
    # Trailer, map nodes, data.
    assert len(ranges(bench.store)) == 3


async def test_a_request_has_a_largest_size() -> None:
    bench, content = await written(20_000_000, block_size=65536)
    reader = await Reader.open(bench.store, KEY)
    assert await reader.read(0, 20_000_000) == content
    sizes = [end - start for start, end in ranges(bench.store)]
    assert max(sizes) == 8 << 20
    assert len([size for size in sizes if size > 65536]) == 3


async def test_the_map_is_read_once() -> None:
    bench, content = await written(3_000_000)
    reader = await Reader.open(bench.store, KEY)
    await reader.read(0, 10)
    bench.store.calls.clear()
    for offset in range(0, 2_900_000, 290_000):
        assert await reader.read(offset, 100) == content[offset : offset + 100]
    assert len(bench.store.calls) == 10


async def test_what_is_kept_is_bounded() -> None:
    bench, content = await written(*[300_000] * 20)
    reader = await Reader.open(bench.store, KEY, cache_bytes=20_000)
    assert await reader.read(0, len(content)) == content
    assert 0 < reader._objects.cached_bytes <= 20_000
    assert await reader.read(0, len(content)) == content


async def test_a_container_is_read_in_chunks_that_end_at_round_places() -> None:
    bench, content = await written(1_000_000)
    reader = await Reader.open(bench.store, KEY)
    async with aclosing(reader.chunks(1000, 900_000, chunk_bytes=65536)) as chunks:
        found = [chunk async for chunk in chunks]
    assert b"".join(found) == content[1000:900_000]
    assert len(found[0]) == 65536 - 1000
    assert {len(chunk) for chunk in found[1:-1]} == {65536}
    assert [chunk async for chunk in reader.chunks(5, 5)] == []


async def test_reading_that_stops_early_leaves_no_task() -> None:
    bench, _ = await written(1_000_000)
    reader = await Reader.open(bench.store, KEY)
    async with aclosing(reader.chunks(chunk_bytes=4096)) as chunks:
        async for _ in chunks:
            break
    assert len(asyncio.all_tasks()) == 1


async def test_a_failing_request_fails_the_read_and_the_next_read_works() -> None:
    bench, content = await written(*[50_000] * 5)
    reader = await Reader.open(bench.store, KEY)
    failures = iter([True, True])

    def fail(call: Call) -> None:
        if next(failures, False):
            raise StoreRetry("injected")

    bench.store.before = fail
    for _ in range(2):
        with pytest.raises(StoreRetry):
            await reader.read(0, len(content))
    assert len(asyncio.all_tasks()) == 1
    assert await reader.read(0, len(content)) == content


async def test_a_refreshed_reader_sees_what_was_committed_since() -> None:
    bench, content = await written(5000)
    reader = await Reader.open(bench.store, KEY)
    assert not await reader.refresh()
    await append(await bench.open(), b"more")
    assert await reader.read(0, 9999) == content, "until then it shows one state"
    assert await reader.refresh()
    assert await reader.read(0, 9999) == content + b"more"
    pinned = await Reader.open(bench.store, KEY, checkpoint=1)
    assert not await pinned.refresh()
    assert pinned.size == 5000


async def test_a_refreshed_reader_survives_the_container_being_made_anew() -> None:
    bench, _ = await written(5000, 10)
    reader = await Reader.open(bench.store, KEY)
    bench.store.objects.clear()
    bench.clock.now += 1
    await append(await bench.create(), b"new")
    assert await reader.refresh()
    assert await reader.read(0, 100) == b"new"


async def test_a_damaged_data_block_is_noticed_however_little_of_it_is_read() -> None:
    bench, content = await written(100_000)
    at = data_offset(bench.store) + 3 * 4096 + 17
    damage(bench.store, FIRST, at)
    reader = await Reader.open(bench.store, KEY)
    for offset, length in ((0, 100_000), (3 * 4096 + 100, 10), (4 * 4096 - 1, 2)):
        with pytest.raises(ChecksumError, match="checksum of data block 3 does not") as caught:
            await reader.read(offset, length)
        assert (caught.value.object, caught.value.offset) == (FIRST, at - 17)
        assert caught.value.what == "data block 3"
    # Others are still readable.
    assert await reader.read(0, 3 * 4096) == content[: 3 * 4096]
    assert await reader.read(4 * 4096, 50_000) == content[4 * 4096 :][:50_000]


async def test_a_damaged_last_block_is_noticed_before_it_is_written_again() -> None:
    bench, _ = await written(5000)
    damage(bench.store, FIRST, data_offset(bench.store) + 4096 + 3000)
    appender = await bench.open()
    with pytest.raises(ChecksumError, match="checksum of data block 1 does not"):
        await appender.begin(1)


async def test_a_damaged_map_node_is_noticed() -> None:
    bench, _ = await written(100_000)
    damage(bench.store, FIRST, data_offset(bench.store) - 1)
    reader = await Reader.open(bench.store, KEY)
    with pytest.raises(ChecksumError, match="checksum of map node 0 does not"):
        await reader.read(0, 1)


async def test_a_damaged_trailer_is_noticed() -> None:
    bench, _ = await written(100_000)
    damage(bench.store, FIRST, len(bench.store.body(FIRST)) - 40)
    with pytest.raises(ChecksumError, match="checksum of the trailer does not"):
        await Reader.open(bench.store, KEY)
    with pytest.raises(ChecksumError, match="checksum of the trailer does not"):
        await bench.open()


async def test_a_missing_object_is_named() -> None:
    bench, _ = await written(100_000)
    del bench.store.objects[FIRST]
    with pytest.raises(FormatError, match="not there") as caught:
        await Reader.open(bench.store, KEY)
    assert caught.value.object == FIRST


@pytest.mark.parametrize("size", [0, 100, 207, 208, 4096, 8192, 60_000])
async def test_a_short_object_is_named(size: int) -> None:
    bench, _ = await written(100_000)
    bench.store.put(FIRST, bench.store.body(FIRST)[:size])
    with pytest.raises(FormatError) as caught:
        await Reader.open(bench.store, KEY)
    assert caught.value.object == FIRST


async def test_an_object_that_is_replaced_while_it_is_read_is_another_container_s() -> None:
    bench, _ = await written(100_000)
    reader = await Reader.open(bench.store, KEY)
    await reader.read(0, 1)
    bench.store.put(FIRST, bench.store.body(FIRST)[:60_000])
    with pytest.raises(StaleVersion, match="another container") as caught:
        await reader.read(0, 100_000)
    assert caught.value.object == FIRST


async def test_an_object_of_another_number_or_block_size_is_named() -> None:
    bench, _ = await written(100_000)
    body = without_checksums(bench.store.body(FIRST))
    bench.store.put(FIRST, body[:192] + b"\x09" + body[193:])
    with pytest.raises(FormatError, match="another checkpoint, 9"):
        await Reader.open(bench.store, KEY)
    bench.store.put(FIRST, body[:14] + b"\x0d" + body[15:] + bytes(4096))
    with pytest.raises(FormatError, match="other block sizes"):
        await Reader.open(bench.store, KEY)


async def test_an_object_of_the_crate_is_read_without_checksums() -> None:
    store = golden_store("parted")
    reader = await Reader.open(store, "parted")
    whole = await reader.read(0, reader.size)
    assert len(whole) == reader.size


async def test_negative_ranges_are_refused() -> None:
    bench, _ = await written(10)
    reader = await Reader.open(bench.store, KEY)
    for offset, length in ((-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="negative"):
            await reader.read(offset, length)


async def test_opening_what_is_not_there_says_so() -> None:
    with pytest.raises(NoSuchContainer):
        await Reader.open(MemoryStore(), "nothing")
    for number in (0, 2, 1 << 30):
        with pytest.raises(NoSuchCheckpoint):
            await Reader.open(golden_store("empty"), "empty", checkpoint=number)


async def test_a_part_or_garbage_is_not_opened_as_a_checkpoint() -> None:
    with pytest.raises(FormatError):
        await Reader.open(golden_store("taken-numbers"), "taken-numbers", checkpoint=5)
    store = golden_store("parted-parts")
    store.put("parted-parts/0000000009.0", store.body("parted-parts/0000000003.1"))
    with pytest.raises(FormatError, match="not the checkpoint of its number"):
        await Reader.open(store, "parted-parts", checkpoint=9)
