"""A version whose objects were removed while it was open: told apart from damage, in every face."""

from __future__ import annotations

import errno
import inspect
import io
import pickle
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hf_agent import hyperfile
from hf_agent.hyperfile import (
    FileOptions,
    FormatError,
    HyperFile,
    HyperfileError,
    MissingObject,
    Reader,
    StaleVersion,
)
from hf_agent.hyperfile.cache.caching_store import CachingStore
from hf_agent.hyperfile.cache.memory_cache import MemoryCache
from hf_agent.store.base import StoreRetry
from support.files import KEY, FileBench
from support.memory_store import Call

OLD = random.Random(1).randbytes(500_000)
NEW = random.Random(2).randbytes(600_000)
FIRST = f"{KEY}/0000000001.0"


async def written() -> FileBench:
    bench = FileBench()
    async with await bench.open("x") as file:
        await file.append(OLD)
    return bench


async def move_on(bench: FileBench) -> None:
    """All of the content is another, in a second checkpoint; nothing needs the first."""
    async with await bench.open("r+") as file:
        await file.pwrite(0, NEW)


def prune(bench: FileBench) -> None:
    del bench.store.objects[FIRST]


Read = Callable[[], Awaitable[object]]


async def readers(bench: FileBench) -> dict[str, Read]:
    """Handles of every kind on the state that there is, none of whose data was read."""
    reader, file = await Reader.open(bench.store, KEY), await bench.open("r")
    writer = await bench.open("r+")
    await writer.pwrite(8192, b"x" * 5000)

    async def chunks() -> bytes:
        return b"".join([chunk async for chunk in reader.chunks()])

    return {
        "reader": lambda: reader.read(0, 100),
        "chunks": chunks,
        "file": lambda: file.pread(0, 100),
        "writer": lambda: writer.pread(0, 100),
    }


KINDS = ["reader", "chunks", "file", "writer"]


@pytest.mark.parametrize("kind", KINDS)
async def test_a_version_that_was_removed_is_stale(kind: str) -> None:
    bench = await written()
    read = (await readers(bench))[kind]
    await move_on(bench)
    prune(bench)
    with pytest.raises(StaleVersion, match="open it again") as caught:
        await read()
    error = caught.value
    assert isinstance(error, HyperfileError)
    assert isinstance(error, OSError)
    assert not isinstance(error, FormatError)
    assert (error.errno, error.key, error.checkpoint, error.object) == (
        *(errno.ESTALE, KEY, 1),
        FIRST,
    )
    assert "the container is at checkpoint 2" in str(error)
    assert isinstance(error.__cause__, MissingObject)


async def test_seeking_and_flushing_tell_as_well() -> None:
    """What the map needs beyond its root: here, leaves in an object that is not there any more."""
    bench = FileBench(options=FileOptions(block_size=4096, cache_bytes=0))
    async with await bench.open("x") as file:
        await file.append(random.Random(3).randbytes(600 * 4096))
    async with await bench.open("r+") as file:
        await file.append(b"more")
    file, writer = await bench.open("r"), await bench.open("r+")
    await writer.pwrite(5, b"part of a block")
    async with await bench.open("w") as other:
        await other.append(NEW)
    prune(bench)
    with pytest.raises(StaleVersion):
        await file.seek_data(10)
    with pytest.raises(StaleVersion):
        await file.seek_hole(10)
    with pytest.raises(StaleVersion):
        await writer.flush()
    writer.discard()


@pytest.mark.parametrize("kind", KINDS)
async def test_an_object_that_the_newest_version_needs_is_damage(kind: str) -> None:
    bench = await written()
    read = (await readers(bench))[kind]
    prune(bench)
    with pytest.raises(MissingObject, match=r"not there|has gone") as caught:
        await read()
    assert isinstance(caught.value, FormatError)
    assert caught.value.object == FIRST


@pytest.mark.parametrize("kind", KINDS)
async def test_a_container_that_was_removed_is_stale(kind: str) -> None:
    bench = await written()
    read = (await readers(bench))[kind]
    bench.store.objects.clear()
    with pytest.raises(StaleVersion, match="the container was removed"):
        await read()


async def test_an_owner_that_was_set_without_a_checkpoint_is_no_later_version() -> None:
    bench = await written()
    reader = await Reader.open(bench.store, KEY)
    inode = bytearray(bench.store.body(f"{KEY}/inode"))
    inode[48] ^= 1
    bench.store.put(f"{KEY}/inode", bytes(inode))
    prune(bench)
    with pytest.raises(MissingObject):
        await reader.read(0, 100)


async def test_opened_again_or_refreshed_it_reads() -> None:
    bench = await written()
    reader, file = await Reader.open(bench.store, KEY), await bench.open("r")
    await move_on(bench)
    prune(bench)
    for read in (reader.read, file.pread):
        with pytest.raises(StaleVersion):
            await read(0, 100)
    assert await reader.refresh()
    assert await file.refresh()
    assert await reader.read(0, 100) == await file.pread(0, 100) == NEW[:100]
    assert await bench.content() == NEW


async def test_a_checkpoint_that_was_opened_is_stale_once_it_is_gone_itself() -> None:
    bench = await written()
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"x" * 4096)  # the rest stays in the first checkpoint
    await move_on(bench)
    pinned, reader = (
        await bench.open("r", checkpoint=2),
        await Reader.open(bench.store, KEY, checkpoint=2),
    )
    prune(bench)
    for read in (pinned.pread, reader.read):
        # Version 2 is listed: it is to be read, and cannot be.
        with pytest.raises(MissingObject):
            await read(8192, 10)
    del bench.store.objects[f"{KEY}/0000000002.0"]
    for read in (pinned.pread, reader.read):
        with pytest.raises(StaleVersion, match="its checkpoint was removed"):
            await read(8192, 10)


async def test_a_flush_that_needs_what_was_removed_says_so_and_keeps_what_was_written() -> None:
    bench = await written()
    file = await bench.open("r+")
    await file.pwrite(10, b"mine")
    await move_on(bench)
    prune(bench)
    with pytest.raises((StaleVersion, hyperfile.ConflictError)):
        await file.flush()
    assert file.dirty
    file.discard()
    assert await file.refresh()
    await file.pwrite(10, b"mine")
    await file.flush()
    assert await bench.content() == NEW[:10] + b"mine" + NEW[14:]


async def test_what_stands_under_the_name_in_a_new_container_is_not_taken_for_the_old() -> None:
    bench = await written()
    store = CachingStore(bench.store, "memory", [MemoryCache(1 << 20)])
    reader = await Reader.open(store, KEY)
    assert await reader.read(0, 10) == OLD[:10]
    bench.store.objects.clear()
    async with await bench.open("x") as file:
        await file.append(NEW)
        await file.flush()
        await file.append(b"more")
    with pytest.raises(StaleVersion):
        await reader.read(400_000, 10)


TWIN = random.Random(4).randbytes(len(OLD))
"""Other content for a container whose objects have the names and sizes of the first one's."""


async def replace_by_a_twin(bench: FileBench, seconds: float) -> None:
    """Remove the container; then another one is made at its key, laid out as it was."""
    bench.store.objects.clear()
    bench.store.now += seconds
    bench.clock.now += 0.001
    async with await bench.open("x") as file:
        await file.append(TWIN)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [0, 60])
async def test_bytes_of_another_container_at_the_key_are_never_given_out(
    kind: str, seconds: float
) -> None:
    bench = await written()
    read = (await readers(bench))[kind]
    await replace_by_a_twin(bench, seconds)
    with pytest.raises(StaleVersion, match="another container was made at its key"):
        await read()


@pytest.mark.parametrize("pointer_format", [1, 3, 4])
@pytest.mark.parametrize("checkpoint", [None, 1])
async def test_what_is_opened_anew_through_a_cache_is_the_container_that_is_there_now(
    checkpoint: int | None, pointer_format: int
) -> None:
    """A cache that outlived the first container gave its bytes for those of the second one."""
    bench = FileBench(options=FileOptions(block_size=4096, pointer_format=pointer_format))
    async with await bench.open("x") as file:
        await file.append(OLD)
    plain = bench.store
    store = CachingStore(plain, "memory", [MemoryCache(8 << 20)])

    async def contents() -> list[bytes]:
        reader = await Reader.open(store, KEY, checkpoint=checkpoint)
        file = await HyperFile.open(
            store, KEY, checkpoint=checkpoint, clock=bench.clock, rng=bench.rng
        )
        return [await reader.read(0, reader.size), await file.pread(0, file.size)]

    assert await contents() == [OLD, OLD]
    await replace_by_a_twin(bench, 60)
    assert await contents() == [TWIN, TWIN]


async def test_objects_that_were_not_read_before_are_told_from_those_of_another_container() -> None:
    bench = await written()
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"x" * 4096)  # the rest stays in the first checkpoint
    kept = dict(bench.store.objects)
    for checkpoint in (None, 2):
        file = await bench.open("r", checkpoint=checkpoint)
        reader = await Reader.open(bench.store, KEY, checkpoint=checkpoint)
        await replace_by_a_twin(bench, 60)
        async with await bench.open("r+") as other:
            await other.pwrite(0, b"y" * 4096)
        for read in (file.pread, reader.read):
            with pytest.raises(StaleVersion, match="another container was made at its key"):
                await read(8192, 10)
        bench.store.objects = dict(kept)


async def test_objects_younger_than_the_opening_are_read_where_the_container_is_the_same() -> None:
    """A store's clock that was set back; and what the handle itself has written since."""
    bench = await written()
    async with await bench.open("r+") as file:
        await file.pwrite(0, b"x" * 4096)
    bench.store.now -= 3600
    file = await bench.open("r+")
    reader = await Reader.open(bench.store, KEY)
    for read in (file.pread, reader.read):
        assert await read(8192, 10) == OLD[8192:8202]
    bench.store.now += 7200
    await file.pwrite(8192, b"mine")
    await file.flush()
    assert await file.pread(8190, 8) == OLD[8190:8192] + b"mine" + OLD[8196:8198]
    await file.close()


async def test_the_look_at_a_younger_object_costs_one_request_for_all_of_an_age() -> None:
    bench = FileBench()
    async with await bench.open("x") as file:
        for number in range(5):
            await file.append(random.Random(number).randbytes(5000))
            await file.flush()
    bench.store.now -= 3600
    reader = await Reader.open(bench.store, KEY)
    bench.store.calls.clear()
    await reader.read(0, 25_000)
    assert len(bench.store.written("head")) == 1


async def test_a_store_that_is_away_when_the_reason_is_looked_for_is_to_be_tried_again() -> None:
    bench = await written()
    reader = await Reader.open(bench.store, KEY)
    await move_on(bench)
    prune(bench)

    def away(call: Call) -> None:
        if call.key.endswith("inode"):
            raise StoreRetry("away")

    bench.store.before = away
    with pytest.raises(StoreRetry):
        await reader.read(0, 10)
    bench.store.before = lambda call: None
    with pytest.raises(StaleVersion):
        await reader.read(0, 10)


# -- files of the standard library --------------------------------------------------------------


def on_disk(tmp_path: Path) -> tuple[str, Callable[[], None]]:
    """A container in a directory, and what has it move on and loses the first version."""
    uri = f"file://{tmp_path}/store/data"
    with hyperfile.open(uri, "x") as file:
        file.write(OLD)

    def lose() -> None:
        with hyperfile.open(uri, "r+") as file:
            file.write(NEW)
        (tmp_path / "store" / "data" / "0000000001.0").unlink()

    return uri, lose


@pytest.mark.parametrize("buffered", [False, True])
def test_a_raw_file_and_its_buffers_raise_estale(tmp_path: Path, buffered: bool) -> None:
    uri, lose = on_disk(tmp_path)
    with hyperfile.open(uri) as raw:
        file = io.BufferedReader(raw) if buffered else raw
        lose()
        with pytest.raises(OSError, match="open it again") as caught:
            file.seek(400_000)
            file.read(10)
        assert caught.value.errno == errno.ESTALE
        assert isinstance(caught.value, StaleVersion)
        assert raw.refresh()
        raw.seek(400_000)
        assert raw.read(10) == NEW[400_000:400_010]


def test_an_object_that_is_lost_is_no_estale_in_a_raw_file(tmp_path: Path) -> None:
    uri, _ = on_disk(tmp_path)
    with hyperfile.open(uri) as raw:
        (tmp_path / "store" / "data" / "0000000001.0").unlink()
        with pytest.raises(MissingObject):
            raw.seek(400_000)
            raw.read(10)


def test_the_error_reads_well_and_goes_between_processes() -> None:
    why = "the container is at checkpoint 9"
    error = StaleVersion("a/log", 7, why, object="a/log/0000000007.0")
    assert str(error) == (
        "the version that was opened is not there any more, the container is at checkpoint 9: "
        "open it again key=a/log checkpoint=7 object=a/log/0000000007.0"
    )
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.errno, copy.checkpoint) == (str(error), errno.ESTALE, 7)


def test_every_call_of_a_file_that_reads_tells() -> None:
    """A further call has to be thought of."""
    telling = {
        name
        for name, method in vars(HyperFile).items()
        if inspect.isfunction(method) and inspect.unwrap(method) is not method
    }
    assert telling == {
        *("pread", "seek_data", "seek_hole"),
        *("pwrite", "append", "zero", "truncate", "flush"),
    }
