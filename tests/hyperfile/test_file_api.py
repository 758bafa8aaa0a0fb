"""What callers of a file may rely on: modes, errors, attributes, holes, closing."""

from __future__ import annotations

import asyncio
import errno
import io
import random
from array import array
from dataclasses import replace
from typing import Any

import pytest

from hf_agent.hyperfile import (
    CheckpointTooLarge,
    ContainerExists,
    FileOptions,
    HyperFile,
    NoCheckpointThen,
    NoSuchCheckpoint,
    NoSuchContainer,
    Reader,
    ReadOnlyLayout,
)
from hf_agent.store.base import StoreRetry
from support.files import KEY, FileBench
from support.memory_store import Call, MemoryStore

MAX = (1 << 63) - 1


async def filled(content: bytes = b"content", **options: Any) -> FileBench:
    bench = FileBench(options=FileOptions(**({"block_size": 4096} | options)))
    async with await bench.open("x") as file:
        await file.append(content)
    return bench


# -- modes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+"])
async def test_reading_modes_need_a_container(mode: Any) -> None:
    bench = FileBench()
    with pytest.raises(NoSuchContainer, match=f"key={KEY}"):
        await HyperFile.open(bench.store, KEY, mode, clock=bench.clock, rng=bench.rng)
    assert not bench.store.objects


@pytest.mark.parametrize("mode", ["w", "a", "x"])
async def test_other_modes_create_one_at_once(mode: Any) -> None:
    bench = FileBench()
    file = await bench.open(mode)
    assert list(bench.store.objects) == [f"{KEY}/inode"]
    assert (file.size, file.checkpoint, file.dirty) == (0, 0, False)
    await file.close()
    assert await bench.numbers() == []


async def test_x_does_not_touch_what_is_there() -> None:
    bench = await filled()
    before = dict(bench.store.objects)
    with pytest.raises(ContainerExists, match=f"key={KEY}"):
        await bench.open("x")
    assert bench.store.objects == before


async def test_w_empties_the_file_with_its_first_flush_and_keeps_the_history() -> None:
    bench = await filled()
    file = await bench.open("w")
    assert (file.size, file.dirty) == (0, True)
    assert await bench.content() == b"content"
    await file.append(b"new")
    await file.close()
    assert await bench.content() == b"new"
    assert await bench.content(1) == b"content"
    assert await bench.numbers() == [2, 1]


async def test_w_that_is_aborted_leaves_everything_as_it_was() -> None:
    bench = await filled()
    with pytest.raises(RuntimeError, match="stop"):
        async with await bench.open("w") as file:
            await file.append(b"new")
            raise RuntimeError("stop")
    assert file.closed
    assert await bench.content() == b"content"
    assert await bench.numbers() == [1]


async def test_a_writes_at_the_end_and_nowhere_else() -> None:
    bench = await filled()
    async with await bench.open("a") as file:
        assert await file.append(b" and") == 7
        assert await file.pwrite(11, b" more") == 5
        for call in (file.pwrite(0, b"x"), file.pwrite(17, b"x"), file.zero(0, 3)):
            with pytest.raises(io.UnsupportedOperation, match="mode a"):
                await call
        await file.zero(16, 2)
    assert await bench.content() == b"content and more\0\0"


async def test_every_mode_reads() -> None:
    bench = await filled()
    for mode in ("r", "r+", "a"):
        file = await bench.open(mode)
        assert await file.pread(0, 100) == b"content"
        assert file.mode == mode
        assert file.writable == (mode != "r")
        assert file.key == KEY


@pytest.mark.parametrize(
    ("mode", "arguments"),
    [
        ("rw", {}),
        ("", {}),
        ("r+", {"checkpoint": 1}),
        ("w", {"at_time": 0.0}),
        ("r", {"at_time": 0.0, "checkpoint": 1}),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(mode: Any, arguments: Any) -> None:
    bench = await filled()
    with pytest.raises(ValueError, match="mode="):
        await bench.open(mode, **arguments)
    assert await bench.numbers() == [1]


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_size": 5000},
        {"block_size": 2048},
        {"block_size": 0},
        {"block_size": -4096},
        {"block_size": 1 << 31},
        {"meta_block_size": 4097},
        {"pointer_format": 0},
        {"pointer_format": 5},
        {"part_bytes": 0},
        {"part_bytes": (1 << 30) + 1},
        {"dirty_bytes": -1},
        {"cache_bytes": -1},
        {"on_conflict": "overwrite"},
    ],
)
def test_options_that_the_format_does_not_have_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        FileOptions(**wrong)


@pytest.mark.parametrize("pointer_format", [2, 3, 4])
@pytest.mark.parametrize("name", ["block_size", "meta_block_size"])
async def test_blocks_that_fit_no_object_are_refused(pointer_format: int, name: str) -> None:
    options = FileOptions(pointer_format=pointer_format, **{name: 1 << 30})  # type: ignore[arg-type]
    bench = FileBench(options=options)
    with pytest.raises(ValueError, match=rf"{name}=1073741824.*pointer_format={pointer_format}"):
        await bench.open("x")
    assert not bench.store.objects


async def test_such_a_container_of_others_is_read_only() -> None:
    bench = await filled(b"")
    stored = bytearray(bench.store.body(f"{KEY}/inode"))
    stored[45] = 30
    bench.store.put(f"{KEY}/inode", bytes(stored))
    assert await bench.content() == b""
    with pytest.raises(ReadOnlyLayout, match="1073741824"):
        await bench.open("r+")


@pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])
@pytest.mark.parametrize("shift", [12, 13, 16, 20, 22])
@pytest.mark.parametrize("meta_shift", [12, 16])
async def test_every_block_size_and_format_is_created_read_and_checked(
    pointer_format: int, shift: int, meta_shift: int
) -> None:
    bench = await filled(
        random.Random(1).randbytes(9_000_000),
        pointer_format=pointer_format,
        block_size=1 << shift,
        meta_block_size=1 << meta_shift,
    )
    async with await bench.open("r+") as file:
        await file.pwrite(4_000_000, b"changed")
        stat = file.stat()
        assert (stat.block_size, stat.meta_block_size) == (1 << shift, 1 << meta_shift)
        assert stat.pointer_format == pointer_format
    expected = bytearray(random.Random(1).randbytes(9_000_000))
    expected[4_000_000:4_000_007] = b"changed"
    assert await bench.content() == expected
    await bench.check()


# -- time ---------------------------------------------------------------------------------------


async def test_a_file_opens_at_a_checkpoint_or_a_time_and_stays_there() -> None:
    bench = await filled(b"one")
    first = bench.clock.now
    bench.clock.now += 100
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"two")
    assert await bench.content(1) == b"one"
    old = await bench.open("r", at_time=first + 99)
    assert await old.pread(0, 9) == b"one"
    assert old.checkpoint == 1
    assert not await old.refresh()
    new = await bench.open("r", at_time=first + 100)
    assert await new.pread(0, 9) == b"two"
    with pytest.raises(NoCheckpointThen, match=f"key={KEY} time="):
        await bench.open("r", at_time=first - 1)
    with pytest.raises(NoSuchCheckpoint):
        await bench.open("r", checkpoint=3)


async def test_a_time_set_by_hand_does_not_move_a_checkpoint() -> None:
    bench = await filled(b"one")
    first = bench.clock.now
    bench.clock.now += 100
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"two")
        file.set_attributes(mtime_ns=5)
    assert (await bench.open("r")).stat().mtime_ns == 5
    assert await (await bench.open("r", at_time=first + 50)).pread(0, 9) == b"one"


async def test_a_reader_stays_on_its_state_until_it_is_refreshed() -> None:
    bench = await filled(b"one")
    reader = await bench.open("r")
    assert not await reader.refresh()
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"two")
    assert await reader.pread(0, 9) == b"one"
    assert reader.checkpoint == 1
    assert await reader.refresh()
    assert await reader.pread(0, 9) == b"two"


async def test_a_reader_sees_the_container_that_was_made_anew_at_its_key() -> None:
    bench = await filled(b"one" * 3000)
    reader = await bench.open("r")
    assert await reader.pread(0, 3) == b"one"
    bench.store.objects.clear()
    bench.clock.now += 1
    async with await bench.open("x") as file:
        await file.append(b"two" * 3000)
    assert await reader.refresh()
    assert await reader.pread(0, 9000) == b"two" * 3000


# -- errors -------------------------------------------------------------------------------------


async def test_a_file_opened_for_reading_is_not_written_to() -> None:
    file = await (await filled()).open("r")
    for call in (file.pwrite(0, b"x"), file.append(b"x"), file.zero(0, 1), file.truncate(0)):
        with pytest.raises(io.UnsupportedOperation, match="not open for writing"):
            await call
    with pytest.raises(io.UnsupportedOperation):
        file.set_attributes(mode=0o600)
    with pytest.raises(io.UnsupportedOperation):
        file.discard()
    assert await file.flush() is None


async def test_negative_numbers_and_numbers_past_2_63_are_refused() -> None:
    bench = await filled()
    file = await bench.open("r+")
    for call in (
        *(file.pread(-1, 1), file.pread(0, -1), file.pwrite(-1, b"x"), file.zero(-1, 1)),
        *(file.zero(0, -1), file.truncate(-1), file.seek_data(-1), file.seek_hole(-1)),
    ):
        with pytest.raises(ValueError, match="negative"):
            await call
    for call in (file.pwrite(MAX, b"x"), file.zero(MAX - 5, 6), file.truncate(MAX + 1)):
        with pytest.raises(OSError, match="2\\^63-1") as caught:
            await call
        assert caught.value.errno == errno.EFBIG
    assert not file.dirty


async def test_a_closed_file_does_nothing_more() -> None:
    bench = await filled()
    file = await bench.open("r+")
    await file.close()
    await file.close()
    await file.abort()
    for call in (
        *(file.pread(0, 1), file.pwrite(0, b"x"), file.append(b"x"), file.zero(0, 1)),
        *(file.truncate(0), file.seek_data(0), file.seek_hole(0), file.flush(), file.refresh()),
        file.__aenter__(),
    ):
        with pytest.raises(ValueError, match="closed"):
            await call
    for act in (file.stat, file.discard, file.set_attributes):
        with pytest.raises(ValueError, match="closed"):
            act()


async def test_reading_stops_at_the_end() -> None:
    file = await (await filled()).open("r+")
    assert await file.pread(3, 100) == b"tent"
    assert await file.pread(7, 5) == await file.pread(MAX, 5) == b""
    await file.pwrite(0, b"")
    await file.pwrite(50, b"")
    assert (file.size, file.dirty) == (7, False)


@pytest.mark.parametrize(
    "data",
    [b"\1\2\3\4", bytearray(b"\1\2\3\4"), memoryview(b"\1\2\3\4"), array("H", [513, 1027])],
    ids=["bytes", "bytearray", "memoryview", "array"],
)
async def test_anything_with_bytes_can_be_written(data: Any) -> None:
    file = await (await filled(b"")).open("r+")
    assert await file.pwrite(0, data) == 4
    assert await file.append(memoryview(b"\5-\6-")[::2]) == 4
    assert await file.pread(0, 9) == b"\1\2\3\4\5\6"
    with pytest.raises(TypeError):
        await file.pwrite(0, "text")  # type: ignore[arg-type]


# -- attributes ---------------------------------------------------------------------------------


async def test_attributes_are_flushed_as_a_checkpoint() -> None:
    bench = await filled()
    before = (await bench.open("r")).stat()
    bench.clock.now += 7
    file = await bench.open("r+")
    file.set_attributes(mode=0o640, uid=5, gid=6, atime_ns=123_456_789_012)
    assert file.dirty
    assert file.stat().mode == 0o100640
    result = await file.flush()
    assert result is not None
    stat = (await bench.open("r")).stat()
    assert (stat.mode, stat.uid, stat.gid, stat.atime_ns) == (0o100640, 5, 6, 123_456_789_012)
    assert stat.mtime_ns == before.mtime_ns
    assert stat.ctime_ns == before.ctime_ns + 7_000_000_000
    assert (stat.size, stat.checkpoint) == (7, 2)
    assert bench.objects() == ["0000000001.0", "0000000002.0"]
    await bench.check()


async def test_content_moves_the_mtime_unless_it_is_set() -> None:
    bench = await filled()
    bench.clock.now += 7
    file = await bench.open("r+")
    await file.pwrite(0, b"x")
    await file.flush()
    assert file.stat().mtime_ns == int(bench.clock.now * 1e9)
    await file.pwrite(0, b"y")
    file.set_attributes(mtime_ns=9, mode=0o120777)
    await file.flush()
    assert (file.stat().mtime_ns, file.stat().mode) == (9, 0o120777)
    file.set_attributes(uid=1)
    file.discard()
    assert file.stat().uid == 1000


@pytest.mark.parametrize(
    "wrong",
    [{"mode": -1}, {"mode": 1 << 32}, {"uid": 1 << 32}, {"gid": -5}, {"atime_ns": -1}],
)
async def test_attributes_that_an_inode_does_not_hold_are_refused(wrong: Any) -> None:
    file = await (await filled()).open("r+")
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        file.set_attributes(**wrong)
    assert not file.dirty


# -- holes --------------------------------------------------------------------------------------


async def test_holes_take_up_nothing_and_are_found() -> None:
    bench = FileBench()
    file = await bench.open("x")
    await file.truncate(1 << 40)
    await file.pwrite(1 << 39, b"data")
    assert await file.seek_data(0) == 1 << 39
    await file.flush()
    assert sum(len(stored.body) for stored in bench.store.objects.values()) < 30_000
    assert await file.seek_data(5) == 1 << 39
    assert await file.seek_data((1 << 39) + 1) == (1 << 39) + 1
    assert await file.seek_hole(5) == 5
    assert await file.seek_hole(1 << 39) == (1 << 39) + 4096
    for offset in ((1 << 39) + 4096, (1 << 40) - 1):
        with pytest.raises(OSError, match="no data") as caught:
            await file.seek_data(offset)
        assert caught.value.errno == errno.ENXIO
    for seek in (file.seek_data, file.seek_hole):
        with pytest.raises(OSError, match="past the end") as caught:
            await seek(1 << 40)
        assert caught.value.errno == errno.ENXIO
    assert file.stat().blocks == 8
    await bench.check()


async def test_the_end_of_a_file_without_holes_counts_as_a_hole() -> None:
    file = await (await filled(b"x" * 10_000)).open("r")
    assert await file.seek_hole(0) == 10_000
    assert await file.seek_data(9_999) == 9_999


async def test_zeroing_whole_blocks_makes_holes_and_costs_no_data() -> None:
    bench = await filled(b"x" * 100_000)
    file = await bench.open("r+")
    await file.zero(5000, 80_000)
    result = await file.flush()
    assert result is not None
    assert result.uploaded_bytes < 5 * 4096
    assert await bench.content() == b"x" * 5000 + bytes(80_000) + b"x" * 15_000
    assert await file.seek_hole(0) == 8192
    assert await file.seek_data(8192) == 81_920
    await file.zero(0, 1 << 41)
    await file.flush()
    assert (file.size, file.stat().blocks) == (1 << 41, 0)
    await bench.check()


async def test_blocks_of_zeros_are_not_stored() -> None:
    bench = await filled(b"x" * 40_960)
    file = await bench.open("r+")
    await file.pwrite(0, bytes(40_960) + bytes(40_960))
    result = await file.flush()
    assert result is not None
    # An explicit zero block where there was one, nothing where there was none.
    assert file.stat().blocks == 10 * 8
    assert result.uploaded_bytes < 3 * 4096
    assert await bench.content() == bytes(81_920)
    await bench.check()


# -- memory -------------------------------------------------------------------------------------


async def test_what_is_written_beyond_the_bound_of_memory_goes_ahead_unpublished() -> None:
    bench = FileBench(options=FileOptions(block_size=4096, dirty_bytes=100_000, part_bytes=60_000))
    file = await bench.open("x")
    data = random.Random(1).randbytes(1_000_000)
    for start in range(0, len(data), 7000):
        await file.pwrite(start, data[start : start + 7000])
        assert file._publisher is not None
        assert file._publisher.dirty.memory_bytes <= 100_000 + 4096
    assert len(bench.objects()) > 10
    assert "0000000001.0" not in bench.objects()
    assert await bench.content() == b""
    assert await file.pread(0, file.size) == data
    result = await file.flush()
    assert result is not None
    assert result.uploaded_bytes == sum(
        len(stored.body) for key, stored in bench.store.objects.items() if "inode" not in key
    )
    assert await bench.content() == data
    assert all(len(stored.body) <= 60_000 for stored in bench.store.objects.values())
    await bench.check()


async def test_one_large_write_is_bounded_too() -> None:
    bench = FileBench(options=FileOptions(block_size=4096, dirty_bytes=100_000))
    file = await bench.open("x")
    most = 0
    publisher = file._publisher
    assert publisher is not None

    def watch(call: Call) -> None:
        nonlocal most
        most = max(most, publisher.dirty.memory_bytes)

    bench.store.before = watch
    data = random.Random(1).randbytes(2_000_000)
    await file.pwrite(77, data)
    await file.close()
    assert 0 < most <= 100_000 + 2 * 25_000
    assert await bench.content() == bytes(77) + data


async def test_what_went_ahead_and_was_discarded_is_taken_away() -> None:
    bench = FileBench(options=FileOptions(block_size=4096, dirty_bytes=10_000))
    file = await bench.open("x")
    await file.pwrite(0, b"x" * 100_000)
    assert bench.objects()
    file.discard()
    await file.flush()
    assert bench.objects() == []
    await file.pwrite(0, b"y" * 100_000)
    assert bench.objects()
    await file.abort()
    assert bench.objects() == []


async def test_parts_that_cannot_be_taken_away_do_no_harm() -> None:
    bench = FileBench(options=FileOptions(block_size=4096, dirty_bytes=10_000))
    file = await bench.open("x")
    await file.pwrite(0, b"x" * 100_000)

    def no_deletes(call: Call) -> None:
        if call.operation == "delete":
            raise StoreRetry("no")

    bench.store.before = no_deletes
    file.discard()
    await file.pwrite(0, b"y" * 50_000)
    await file.close()
    assert await bench.content() == b"y" * 50_000
    await bench.check()


@pytest.mark.parametrize("pointer_format", [1, 2])
async def test_a_format_without_parts_says_when_its_object_is_full(pointer_format: int) -> None:
    bench = FileBench(
        options=FileOptions(
            block_size=4096, pointer_format=pointer_format, part_bytes=400_000, dirty_bytes=0
        )
    )
    file = await bench.open("x")
    data, at = random.Random(1).randbytes(900_000), 0
    flushes = 0
    while at < len(data):
        piece = data[at : at + 10_000]
        try:
            await file.pwrite(at, piece)
        except CheckpointTooLarge as error:
            assert "flush" in str(error)
            assert await file.pread(0, file.size) == data[:at]
            await file.flush()
            flushes += 1
            continue
        at += len(piece)
    await file.close()
    assert 3 <= flushes <= 12
    assert await bench.content() == data
    assert max(len(stored.body) for stored in bench.store.objects.values()) <= 400_000
    await bench.check()


# -- calls side by side -------------------------------------------------------------------------


async def test_calls_may_overlap() -> None:
    bench = FileBench(options=FileOptions(block_size=4096, dirty_bytes=20_000))
    file = await bench.open("x")

    async def fill(number: int) -> None:
        for step in range(20):
            offset = number * 10_000 + step * 500
            await file.pwrite(offset, bytes([number + 1]) * 500)
            assert await file.pread(offset, 500) == bytes([number + 1]) * 500
            if step % 7 == number % 7:
                await file.flush()

    await asyncio.gather(*map(fill, range(8)))
    await file.close()
    assert await bench.content() == b"".join(bytes([n + 1]) * 10_000 for n in range(8))
    await bench.check()


async def test_a_read_shows_what_was_written_before_it_however_the_flush_goes() -> None:
    bench = await filled(b"old" * 10_000)
    file = await bench.open("r+")
    await file.pwrite(0, b"new" * 10_000)
    gate = asyncio.Event()

    class Slow(MemoryStore):
        async def get(self, key: str, **arguments: Any) -> Any:
            await gate.wait()
            return await super().get(key, **arguments)

    slow = Slow()
    slow.objects = bench.store.objects
    for name in ("_store",):
        setattr(file._content.sources.objects, name, slow)
    await file.pwrite(20, b"!")
    reading = asyncio.create_task(file.pread(29_990, 5))
    await asyncio.sleep(0)
    gate.set()
    await file.flush()
    assert await reading == (b"new" * 10_000)[29_990:29_995]


async def test_discarding_during_a_flush_is_refused() -> None:
    bench = await filled()
    file = await bench.open("r+")
    await file.pwrite(0, b"x")
    task = asyncio.create_task(file.flush())
    await asyncio.sleep(0)
    with pytest.raises(io.UnsupportedOperation, match="under way"):
        file.discard()
    with pytest.raises(io.UnsupportedOperation, match="under way"):
        file.set_attributes(mode=0)
    await task


# -- with the rest of the package ---------------------------------------------------------------


async def test_the_reader_reads_what_a_file_wrote() -> None:
    bench = await filled(b"x" * 100_000, part_bytes=30_000)
    reader = await Reader.open(bench.store, KEY)
    assert await reader.read(0, reader.size) == b"x" * 100_000


async def test_options_can_be_varied() -> None:
    assert replace(FileOptions(), block_size=4096).meta_config().data_block_size == 4096
