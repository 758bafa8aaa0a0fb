"""Changes beyond a bound of memory go to the store beside further changes, unpublished."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import FileOptions, HyperFile
from hf_agent.hyperfile.file.options import Mode
from hf_agent.hyperfile.file.publisher import Publisher
from hf_agent.store.base import Body, StoreRetry
from hf_agent.store.directory import DirectoryStore
from support.files import KEY, FileBench
from support.memory_store import Call, MemoryStore

MIB = 1 << 20
BLOCK = 4096
BOUND = 80 * BLOCK
OPTIONS = FileOptions(block_size=BLOCK, dirty_bytes=BOUND, ahead_bytes=12 * BLOCK, uploads=3)
"""A part has 10 blocks."""


class HeldStore(MemoryStore):
    """Parts are not stored before they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = asyncio.Event()
        self.waiting = 0
        self.most_waiting = 0
        self.changed_under_way = False

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        if not key.endswith(("inode", ".0")):
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            sent = [bytes(piece) for piece in body]
            try:
                await self.let_go.wait()
            finally:
                self.waiting -= 1
            self.changed_under_way |= sent != [bytes(piece) for piece in body]
        return await super().create(key, body, metadata=metadata)

    async def until_waiting(self, count: int) -> None:
        for _ in range(1000):
            if self.waiting == count:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"{self.waiting} uploads wait, not {count}")


def held_bench() -> tuple[FileBench, HeldStore]:
    store = HeldStore()
    return FileBench(store=store, options=OPTIONS), store


def publisher_of(file: HyperFile) -> Publisher:
    assert file._publisher is not None
    return file._publisher


def held_bytes(file: HyperFile) -> int:
    publisher = publisher_of(file)
    return publisher.dirty.memory_bytes + publisher.flights.outdated_bytes


async def test_writing_goes_on_beside_uploads_and_waits_at_the_bound() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    data = random.Random(1).randbytes(2 * BOUND)
    await file.append(data[: BOUND // 2])
    assert store.waiting == 0, "up to half of the bound nothing is written ahead"
    for at in range(BOUND // 2, BOUND, BLOCK):
        await file.append(data[at : at + BLOCK])
    await store.until_waiting(3)
    beyond = asyncio.create_task(file.append(data[BOUND:]))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not beyond.done()
    assert await file.pread(0, BOUND) == data[:BOUND], "it can be read meanwhile"
    store.let_go.set()
    await beyond
    assert held_bytes(file) <= BOUND
    assert store.most_waiting == OPTIONS.uploads
    assert await bench.content() == b"", "nothing is published"
    await file.close()
    assert await bench.content() == data
    await bench.check()


async def test_what_is_changed_while_it_is_uploaded_counts() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    model = bytearray(random.Random(2).randbytes(60 * BLOCK))
    await file.append(model)
    await store.until_waiting(2)
    # All of these are on their way.
    assert all(index in publisher_of(file).flights for index in range(6))
    for offset, piece in (
        (100, b"a part of a block"),
        (BLOCK, b"b" * BLOCK),
        (2 * BLOCK, bytes(BLOCK)),
        (3 * BLOCK - 5, b"across two of them"),
    ):
        await file.pwrite(offset, piece)
        model[offset : offset + len(piece)] = piece
    await file.zero(5 * BLOCK, BLOCK)
    model[5 * BLOCK : 6 * BLOCK] = bytes(BLOCK)
    assert await file.pread(0, file.size) == model
    store.let_go.set()
    await file.flush()
    assert await file.pread(0, file.size) == model
    assert await bench.content() == model
    await bench.check()


async def test_bytes_do_not_change_under_an_upload() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    model = bytearray(random.Random(12).randbytes(60 * BLOCK))
    for at in range(0, len(model), 1000):  # so that most blocks come in several pieces
        await file.pwrite(at, model[at : at + 1000])
    await store.until_waiting(2)
    for index in range(10):
        model[index * BLOCK + 7] ^= 255
        await file.pwrite(index * BLOCK + 7, model[index * BLOCK + 7 :][:1])
    store.let_go.set()
    await file.close()
    assert not store.changed_under_way
    assert await bench.content() == model
    await bench.check()


async def test_a_file_that_is_cut_while_it_is_uploaded_stays_cut() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    data = random.Random(3).randbytes(60 * BLOCK)
    await file.append(data)
    await store.until_waiting(2)
    await file.truncate(4 * BLOCK + 10)
    await file.truncate(9 * BLOCK)
    store.let_go.set()
    await file.close()
    assert await bench.content() == data[: 4 * BLOCK + 10] + bytes(5 * BLOCK - 10)
    await bench.check()


async def test_a_failed_upload_is_told_when_memory_is_full_and_nothing_is_lost() -> None:
    bench, store = held_bench()
    store.let_go.set()
    file = await bench.open("x")
    data = random.Random(4).randbytes(2 * BOUND)
    away = True

    def fail(call: Call) -> None:
        if away and call.operation == "create":
            raise StoreRetry("the store is away")

    store.before = fail
    at = 0
    with pytest.raises(StoreRetry, match="away"):
        while at < len(data):
            await file.pwrite(at, data[at : at + BLOCK])
            at += BLOCK
    assert at >= BOUND - BLOCK, "there was room until then"
    assert held_bytes(file) <= BOUND + BLOCK
    assert await file.pread(0, at) == data[:at]
    with pytest.raises(StoreRetry, match="away"):
        await file.flush()
    away = False
    while at < len(data):
        await file.pwrite(at, data[at : at + BLOCK])
        at += BLOCK
    await file.close()
    assert await bench.content() == data
    await bench.check()


async def test_what_is_discarded_while_it_is_uploaded_is_taken_away() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    await file.append(random.Random(5).randbytes(60 * BLOCK))
    await store.until_waiting(2)
    file.discard()
    assert not file.dirty
    data = random.Random(6).randbytes(60 * BLOCK)
    await file.append(data)
    store.let_go.set()
    await file.close()
    assert await bench.content() == data
    await bench.check()
    again = await bench.open("r+")
    store.let_go.clear()
    before = bench.objects()
    await again.append(random.Random(7).randbytes(60 * BLOCK))
    await store.until_waiting(2)
    ending = asyncio.create_task(again.abort())
    await asyncio.sleep(0)
    store.let_go.set()
    await ending
    assert bench.objects() == before


async def test_blocks_that_are_overwritten_on_their_way_count_as_memory() -> None:
    bench, store = held_bench()
    file = await bench.open("x")
    rng = random.Random(8)
    most = 0

    async def write() -> None:
        nonlocal most
        for _ in range(300):
            await file.pwrite(rng.randrange(70) * BLOCK, rng.randbytes(BLOCK))
            most = max(most, held_bytes(file))

    writing = asyncio.create_task(write())
    while not writing.done():
        for _ in range(rng.randrange(60)):
            await asyncio.sleep(0)
        store.let_go.set()
        await asyncio.sleep(0)
        store.let_go.clear()
    await writing
    assert BOUND // 2 < most <= BOUND
    expected = await file.pread(0, file.size)
    store.let_go.set()
    await file.close()
    assert await bench.content() == expected
    await bench.check()


async def test_parts_get_larger_so_that_their_numbers_last() -> None:
    bench = FileBench(options=FileOptions(block_size=BLOCK))
    file = await bench.open("x")
    publisher = publisher_of(file)
    await file.append(b"x" * BLOCK)
    number = publisher.state.last_number + 1
    sizes = []
    for next_part in (1, 2047, 2048, 6000, 10_000, 16_000):
        publisher.ahead._number, publisher.ahead._next_part = number, next_part
        sizes.append(publisher._part_blocks * BLOCK / MIB)
    assert [round(size) for size in sizes] == [16, 16, 32, 64, 64, 64]
    publisher.ahead._next_part = 1
    await file.close()


async def test_writing_and_reading_much_takes_little_memory(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, clock=SystemClock(), rng=random.Random(9))
    options = FileOptions(
        dirty_bytes=4 * MIB, ahead_bytes=MIB, request_bytes=MIB, requests=4, cache_bytes=MIB
    )
    rng = random.Random(10)
    piece = rng.randbytes(MIB)
    await store.delete("warm")  # imports, and the pool of threads

    async def opened(mode: Mode) -> HyperFile:
        return await HyperFile.open(store, KEY, mode, clock=SystemClock(), rng=rng, options=options)

    tracemalloc.start()
    try:
        async with await opened("x") as file:
            for _ in range(64):
                await file.append(piece)
        written = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        async with await opened("r") as file:
            for at in range(0, file.size, MIB):
                assert await file.pread(at, MIB) == piece
        read = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await store.close()
    assert written < 8 * MIB
    assert read < 8 * MIB


async def test_parts_of_blocks_that_are_all_zeros_are_bounded_too() -> None:
    bench = FileBench(options=FileOptions(block_size=BLOCK, dirty_bytes=4 * BLOCK))
    file = await bench.open("x")
    model = bytearray(random.Random(11).randbytes(40 * BLOCK))
    await file.append(model)
    await file.flush()
    await file.zero(0, 30 * BLOCK)
    model[: 30 * BLOCK] = bytes(30 * BLOCK)
    for index in range(30):
        await file.pwrite(index * BLOCK + 5, bytes(7))
        assert held_bytes(file) <= 4 * BLOCK
    await file.close()
    assert await bench.content() == model
    await bench.check()
