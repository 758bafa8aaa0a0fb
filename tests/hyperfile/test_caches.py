"""Caches give what the store would, within their bounds, whatever happens to them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile.cache import CachingStore, DiskCache, MemoryCache
from hf_agent.hyperfile.cache.caching_store import CHUNK_BYTES
from hf_agent.hyperfile.read_ahead import ReadAhead
from hf_agent.store.base import ObjectData
from support.manual_clock import ManualClock
from support.memory_store import MemoryStore


class CountingStore(MemoryStore):
    """Counts the ranges that are read of it."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[tuple[str, int | None, int | None]] = []

    async def get(self, key: str, **ranged: object) -> ObjectData:
        start, end = ranged.get("start"), ranged.get("end")
        self.gets.append((key, start, end))  # type: ignore[arg-type]
        return await super().get(key, **ranged)  # type: ignore[arg-type]


def disk_cache(folder: Path, max_bytes: int = 64 << 20) -> DiskCache:
    return DiskCache(folder, max_bytes, clock=SystemClock(), rng=random.Random(1))


async def test_any_ranges_are_those_of_the_store(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    content = rng.randbytes(3 * CHUNK_BYTES + 12_345)
    plain = CountingStore()
    await plain.create("c/0000000001.0", content)
    for caches in ([MemoryCache(1 << 20)], [disk_cache(tmp_path)], []):
        store = CachingStore(plain, "memory", caches)
        for _ in range(200):
            start = rng.randrange(len(content) + 100)
            end = start + rng.randrange(600_000)
            answer = await store.get("c/0000000001.0", start=start, end=end)
            assert answer.data == content[start:end], f"seed={seed}"
            assert answer.info.size == len(content)


async def test_a_range_that_was_read_costs_no_further_request() -> None:
    plain = CountingStore()
    await plain.create("c/0000000001.0", bytes(4 * CHUNK_BYTES))
    store = CachingStore(plain, "memory", [MemoryCache(8 << 20)])
    await store.get("c/0000000001.0", start=0, end=10)
    await store.get("c/0000000001.0", start=100, end=3 * CHUNK_BYTES)
    assert len(plain.gets) == 2
    plain.gets.clear()
    for start in range(0, 3 * CHUNK_BYTES - 100, 10_000):
        await store.get("c/0000000001.0", start=start, end=start + 100)
    assert plain.gets == []


async def test_neighbouring_chunks_come_in_one_request_and_readers_side_by_side_share_it() -> None:
    plain = CountingStore()
    await plain.create("c/0000000001.0", bytes(8 * CHUNK_BYTES))
    store = CachingStore(plain, "memory", [MemoryCache(8 << 20)])
    await store.get("c/0000000001.0", start=0, end=1)
    plain.gets.clear()
    await store.get("c/0000000001.0", start=0, end=6 * CHUNK_BYTES)
    assert len(plain.gets) == 1
    last = 7 * CHUNK_BYTES
    await asyncio.gather(
        *(store.get("c/0000000001.0", start=last + i, end=last + i + 9) for i in range(10))
    )
    assert len(plain.gets) == 2


async def test_an_inode_is_never_cached() -> None:
    plain = CountingStore()
    etag = await plain.create("c/inode", b"old" + bytes(157))
    store = CachingStore(plain, "memory", [MemoryCache(8 << 20)])
    await store.get("c/inode", start=0, end=160)
    await plain.replace("c/inode", b"new" + bytes(157), etag=etag)
    assert (await store.get("c/inode", start=0, end=160)).data.startswith(b"new")


async def test_a_container_that_was_created_again_is_another_one(tmp_path: Path) -> None:
    plain = CountingStore()
    cache = disk_cache(tmp_path)
    for content in (b"a" * 1000, b"b" * 1000):
        await plain.create("c/0000000001.0", content)
        store = CachingStore(plain, "memory", [cache])
        for _ in range(2):
            assert (await store.get("c/0000000001.0", start=0, end=1000)).data == content
        await plain.delete("c/0000000001.0")


async def test_a_disk_cache_is_shared_and_outlives_its_process(tmp_path: Path) -> None:
    plain = CountingStore()
    await plain.create("c/0000000001.0", bytes(2 * CHUNK_BYTES))
    for _ in range(2):
        store = CachingStore(plain, "memory", [MemoryCache(1 << 20), disk_cache(tmp_path)])
        await store.get("c/0000000001.0", start=0, end=1)
        await store.get("c/0000000001.0", start=0, end=2 * CHUNK_BYTES)
    # The second only asked for the etag.
    assert len(plain.gets) == 3


async def test_damage_of_any_kind_is_a_miss(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    cache = disk_cache(tmp_path)
    chunk = rng.randbytes(5000)
    for _ in range(200):
        await cache.put(b"key", chunk)
        (path,) = tmp_path.glob("*/*")
        held = bytearray(path.read_bytes())
        if rng.random() < 0.3:
            path.write_bytes(held[: rng.randrange(len(held))])
        else:
            held[rng.randrange(len(held))] ^= 1 << rng.randrange(8)
            path.write_bytes(held)
        assert await cache.get(b"key") is None, f"seed={seed}"
        assert not path.exists()
    await cache.put(b"key", chunk)
    assert await cache.get(b"key") == chunk
    # A file under another one's name is no more than that.
    (path,) = tmp_path.glob("*/*")
    await cache.put(b"other", b"other")
    other = next(found for found in tmp_path.glob("*/*") if found != path)
    other.replace(path)
    assert await cache.get(b"key") is None


async def test_a_disk_cache_stays_within_its_bound_and_keeps_what_is_used(tmp_path: Path) -> None:
    clock = ManualClock()
    cache = DiskCache(tmp_path, 1 << 20, clock=clock, rng=random.Random(1))
    await cache.put(b"favourite", bytes(10_000))
    for number in range(500):
        await clock.advance(61)
        await cache.put(b"%d" % number, bytes(10_000))
        assert await cache.get(b"favourite") is not None
        total = sum(path.stat().st_size for path in tmp_path.glob("*/*"))
        assert total <= (1 << 20) * 17 // 16
    assert await cache.get(b"0") is None
    assert await cache.get(b"499") is not None


async def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    clock = ManualClock()
    cache = DiskCache(tmp_path, 1 << 20, clock=clock, rng=random.Random(1))
    (tmp_path / "ab").mkdir()
    leftover = tmp_path / "ab" / "0123.partial"
    leftover.write_bytes(b"half")
    os.utime(leftover, (clock.time(),) * 2)
    await clock.advance(7200)
    await cache.put(b"key", b"chunk")
    assert not leftover.exists()


async def test_a_directory_that_cannot_be_used_is_a_miss(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = disk_cache(tmp_path / "file" / "cache")
    await cache.put(b"key", b"chunk")
    assert await cache.get(b"key") is None


async def test_a_directory_that_is_emptied_is_filled_again(tmp_path: Path) -> None:
    cache = disk_cache(tmp_path)
    for _ in range(2):
        await cache.put(b"key", b"chunk")
        assert await cache.get(b"key") == b"chunk"
        for path in tmp_path.glob("*/*"):
            path.unlink()
        for folder in tmp_path.iterdir():
            folder.rmdir()


async def test_memory_is_bounded_and_the_least_recently_used_goes() -> None:
    cache = MemoryCache(10_000)
    for number in range(100):
        await cache.put(b"%d" % number, bytes(1000))
        await cache.get(b"0")
        assert cache.held_bytes <= 10_000
    assert await cache.get(b"0") is not None
    assert await cache.get(b"99") is not None
    assert await cache.get(b"50") is None
    await cache.put(b"large", bytes(20_000))
    assert await cache.get(b"large") is None


class Reads:
    """A content, and what was asked of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        await asyncio.sleep(0)
        return self.content[offset : offset + length]


async def test_reading_in_order_is_served_from_growing_windows() -> None:
    reads = Reads(random.Random(5).randbytes(4 << 20))
    ahead = ReadAhead(reads, len(reads.content), max_bytes=1 << 20)
    offset = 0
    while data := await ahead.read(offset, 8192):
        assert data == reads.content[offset : offset + 8192]
        offset += len(data)
    assert offset == len(reads.content)
    # Up to half of the bound each: the piece that is used and the next one are both within it. (Of
    # the whole bound each it would be three requests less, and twice the memory.)
    assert [length >> 10 for _, length in reads.asked] == [*[128] * 3, 256, *[512] * 6, 384]
    assert sum(length for _, length in reads.asked) == len(reads.content)
    await ahead.close()


async def test_several_pieces_are_ahead_and_together_stay_within_the_bound() -> None:
    content = random.Random(8).randbytes(4 << 20)
    most = running = used = 0
    bound, piece = 1 << 20, 1 << 18

    async def read(offset: int, length: int) -> bytes:
        nonlocal most, running
        assert length <= piece
        assert offset + length <= used + bound, "what was used is within the bound, too"
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return content[offset : offset + length]

    ahead = ReadAhead(read, len(content), max_bytes=bound, piece_bytes=piece)
    for used in range(0, len(content), piece):
        assert await ahead.read(used, piece) == content[used : used + piece]
    assert most >= 3
    await ahead.close()


async def test_pieces_end_where_blocks_do() -> None:
    reads = Reads(random.Random(9).randbytes(1 << 20))
    ahead = ReadAhead(reads, len(reads.content), max_bytes=1 << 20, alignment=4096)
    await ahead.read(0, 777)
    offset = 777
    while data := await ahead.read(offset, 5000):
        assert data == reads.content[offset : offset + 5000]
        offset += len(data)
    assert all((start + length) % 4096 == 0 for start, length in reads.asked)
    await ahead.close()


async def test_what_was_read_ahead_can_be_had_without_a_call() -> None:
    reads = Reads(random.Random(10).randbytes(1 << 20))
    ahead = ReadAhead(reads, len(reads.content), max_bytes=1 << 20)
    await ahead.read(0, 10)
    start, data = ahead.front
    assert start == 0
    assert len(data) > 10
    assert data == reads.content[: len(data)]
    # Who took from there goes on behind it, and is still one who reads in order.
    offset, asked = len(data), len(reads.asked)
    assert await ahead.read(offset, 10) == reads.content[offset : offset + 10]
    assert len(reads.asked) - asked <= 2
    assert reads.asked[-1][1] > 10
    await ahead.close()
    assert ahead.front == (0, b"")


async def test_jumps_read_what_is_asked_for_only() -> None:
    reads = Reads(random.Random(6).randbytes(1 << 20))
    ahead = ReadAhead(reads, len(reads.content), max_bytes=1 << 20)
    for offset in (500_000, 100, 900_000, 200_000):
        assert await ahead.read(offset, 10) == reads.content[offset : offset + 10]
    assert reads.asked == [(500_000, 10), (100, 10), (900_000, 10), (200_000, 10)]
    await ahead.close()


@pytest.mark.parametrize("max_bytes", [0, 1, 5000, 1 << 20])
async def test_any_order_gives_the_right_bytes(max_bytes: int) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed={seed}")
    rng = random.Random(seed)
    reads = Reads(rng.randbytes(200_000))
    ahead = ReadAhead(reads, len(reads.content), max_bytes=max_bytes)
    offset = 0
    for _ in range(300):
        if rng.random() < 0.2:
            offset = rng.randrange(220_000)
        length = rng.randrange(20_000)
        data = await ahead.read(offset, length)
        assert data == reads.content[offset : offset + length], f"seed={seed}"
        offset += length
    await ahead.close()


async def test_a_failure_ahead_is_raised_when_its_turn_comes_and_may_pass() -> None:
    reads = Reads(bytes(1 << 20))
    failing = True

    async def read(offset: int, length: int) -> bytes:
        if failing and offset >= 128 << 10:
            raise OSError("away")
        return await reads(offset, length)

    caller: Callable[[int, int], Awaitable[bytes]] = read
    ahead = ReadAhead(caller, 1 << 20, max_bytes=1 << 20)
    assert len(await ahead.read(0, 100 << 10)) == 100 << 10
    with pytest.raises(OSError, match="away"):
        await ahead.read(100 << 10, 100 << 10)
    failing = False
    assert len(await ahead.read(100 << 10, 100 << 10)) == 100 << 10
    await ahead.close()
