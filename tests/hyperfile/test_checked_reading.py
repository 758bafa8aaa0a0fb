"""What checking costs, what it refuses, and how to read without it."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest
from crc32c import crc32c

from hf_agent.hyperfile import ChecksumError, FormatError, Reader, list_checkpoints
from hf_agent.hyperfile import objects as objects_module
from hf_agent.store.base import StoreRetry
from support.appending import KEY, Bench, append, fail_once
from support.damage import flip
from support.memory_store import MemoryStore

INODE = f"{KEY}/inode"


def name(number: int) -> str:
    return f"{KEY}/{number:010d}.0"


async def written(*sizes: int, block_size: int = 4096) -> tuple[Bench, bytes]:
    bench, content = Bench(block_size=block_size), b""
    appender = await bench.create()
    for number, size in enumerate(sizes):
        data = random.Random(number).randbytes(size)
        await append(appender, data)
        content += data
    bench.store.calls.clear()
    return bench, content


def requests(store: MemoryStore, key: str) -> int:
    return len([call for call in store.calls if call.key == key])


# -- what it costs --------------------------------------------------------------------------------


async def test_a_small_object_is_checked_without_a_further_request() -> None:
    bench, content = await written(3000)
    reader = await Reader.open(bench.store, KEY)
    assert await reader.read(0, 3000) == content
    # Header, map and trailer together; the data.
    assert requests(bench.store, name(1)) == 2


async def test_a_large_object_is_checked_with_one_further_request() -> None:
    bench, content = await written(3_000_000)
    reader = await Reader.open(bench.store, KEY)
    assert await reader.read(0, 3_000_000) == content
    assert requests(bench.store, name(1)) == 4, "header; trailer; rest of the map; data"
    unchecked = await Reader.open(bench.store, KEY, checked=False)
    bench.store.calls.clear()
    assert await unchecked.read(0, 3_000_000) == content
    assert requests(bench.store, name(1)) == 3


async def test_reads_side_by_side_load_an_object_once() -> None:
    bench, content = await written(3_000_000)
    original = bench.store.get

    async def get(key: str, **ranges: int | None) -> object:
        await asyncio.sleep(0)
        return await original(key, **ranges)  # type: ignore[arg-type]

    bench.store.get = get  # type: ignore[assignment,method-assign]
    reader = await Reader.open(bench.store, KEY)
    pieces = await asyncio.gather(*(reader.read(at, 100) for at in range(0, 3_000_000, 300_000)))
    assert pieces == [content[at : at + 100] for at in range(0, 3_000_000, 300_000)]
    trailer = [call for call in bench.store.calls if (call.ranged[0] or 0) > 3_000_000]
    assert len(trailer) == 1


async def test_a_block_larger_than_a_request_is_checked_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(objects_module, "_DATA_WINDOW_BYTES", 100_000)
    bench, content = await written(600_000, block_size=1 << 18)
    reader = await Reader.open(bench.store, KEY)
    bench.store.calls.clear()
    assert await reader.read(300_000, 10) == content[300_000:300_010]
    sizes = [(call.ranged[1] or 0) - (call.ranged[0] or 0) for call in bench.store.calls]
    assert sum(sizes) == 1 << 18
    assert max(sizes) == 100_000
    at = bench.store.body(name(1)).index(content[500_000:500_100])
    flip(bench.store, name(1), 8 * at)
    with pytest.raises(ChecksumError, match="data block 1 "):
        await reader.read(300_000, 10)
    assert await reader.read(550_000, 50_000) == content[550_000:]


# -- what it refuses ------------------------------------------------------------------------------


async def test_the_error_names_block_and_object_and_what_to_do() -> None:
    bench, content = await written(50_000)
    at = bench.store.body(name(1)).index(content[20_000:20_100])
    flip(bench.store, name(1), 8 * at)
    reader = await Reader.open(bench.store, KEY)
    with pytest.raises(ChecksumError) as caught:
        await reader.read(20_000, 1)
    offset = (at // 4096) * 4096
    assert str(caught.value) == (
        "damaged container: the checksum of data block 4 does not match; `hf-agent verify` names "
        "all damage, `cat --ignore-checksums` reads what is there "
        f"object={name(1)} offset={offset}"
    )


async def test_a_half_done_commit_with_a_damaged_header_is_not_passed_over_by_a_reader() -> None:
    bench, content = await written(3000)
    appender = await bench.open()
    fail_once(bench.store, "replace", "inode", after=False)
    with pytest.raises(StoreRetry):
        await append(appender, b"half done")
    assert await bench.content() == content + b"half done"
    flip(bench.store, name(2), 8 * 30)
    with pytest.raises(ChecksumError, match="checksum of the header"):
        await Reader.open(bench.store, KEY)
    unchecked = await Reader.open(bench.store, KEY, checked=False)
    assert await unchecked.read(0, 9999) == content
    # A writer takes the number for lost: what was never finished is still in its own log.
    await append(await bench.open(), b"again")
    assert await bench.content() == content + b"again"
    assert [item.number async for item in list_checkpoints(bench.store, KEY)] == [3, 1]


async def test_a_refreshed_reader_checks_the_new_inode() -> None:
    bench, content = await written(3000)
    reader = await Reader.open(bench.store, KEY)
    await append(await bench.open(), b"more")
    flip(bench.store, INODE, 8 * 72 + 5)
    with pytest.raises(ChecksumError, match="the inode differs from its copy in checkpoint 2"):
        await reader.refresh()
    assert await reader.read(0, 9999) == content, "it shows the state that it had"


async def test_an_inline_flag_out_of_nowhere_is_damage() -> None:
    bench, _ = await written(50)
    flip(bench.store, INODE, 8 * 60)
    with pytest.raises(ChecksumError, match="says that it is inline"):
        await Reader.open(bench.store, KEY)


async def test_a_version_1_trailer_is_checked_like_any_other() -> None:
    bench, content = await written(50_000)
    body = bench.store.body(name(1))
    (length,) = struct.unpack_from("<I", body, len(body) - 52)
    body = body[:4] + bytes(4) + body[8:]
    meta_at = -(-struct.unpack_from("<I", body, 8)[0] // 4096) * 4096
    trailer = bytearray(body[-length:-4])
    trailer[:4] = struct.pack("<I", crc32c(body[:meta_at]))
    trailer[length - 64 + 8] = 1
    bench.store.put(
        name(1), body[:-length] + bytes(trailer) + struct.pack("<I", crc32c(bytes(trailer)))
    )
    assert await bench.content() == content
    at = body.index(content[20_000:20_100])
    flip(bench.store, name(1), 8 * at)
    with pytest.raises(ChecksumError, match="data block 4 "):
        await bench.content()


# -- without it -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bit", [8 * 4 + 3, 8 * 1, 8 * 30, 8 * 250, -8 * 30, -8 * 400])
async def test_unchecked_reading_gives_what_is_there(bit: int) -> None:
    bench, content = await written(50_000)
    flip(bench.store, name(1), bit % (8 * len(bench.store.body(name(1)))))
    reader = await Reader.open(bench.store, KEY, checked=False)
    data = await reader.read(0, 50_000)
    different = [at for at in range(50_000) if data[at] != content[at]]
    assert len(different) <= 1
    assert await reader.read(100, 7) == content[100:107]


async def test_unchecked_reading_takes_a_damaged_inode_as_it_stands() -> None:
    bench, content = await written(50_000)
    flip(bench.store, INODE, 8 * 72 + 3)
    reader = await Reader.open(bench.store, KEY, checked=False)
    assert reader.size == 50_000 ^ 8
    assert await reader.read(0, 49_000) == content[:49_000]


async def test_structure_is_checked_even_so() -> None:
    bench, _ = await written(50_000)
    flip(bench.store, name(1), 8 * 4096 + 1)
    reader = await Reader.open(bench.store, KEY, checked=False)
    with pytest.raises(FormatError, match="was expected"):
        await reader.read(0, 1)
