"""Flushes that fail at every point: afterwards there is the old content or the new, never a mix."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import FileOptions, HyperFile
from hf_agent.store.base import StoreRefused, StoreRetry
from support.files import Died, FileBench, fail_at, heal, retry
from support.memory_store import Call, MemoryStore

OLD = random.Random(1).randbytes(100_000)
NEW = random.Random(2).randbytes(150_000)


def bench_of(pointer_format: int, *, metadata: bool = True, ahead: bool = False) -> FileBench:
    parted = pointer_format >= 3
    options = FileOptions(
        block_size=4096,
        pointer_format=pointer_format,
        part_bytes=50_000 if parted else 1 << 30,
        dirty_bytes=40_000 if ahead else 1 << 20,
    )
    return FileBench(store=MemoryStore(metadata=metadata), options=options)


async def change(file: HyperFile) -> None:
    """From OLD to NEW: whole blocks, partial ones, a new end."""
    await file.pwrite(0, NEW[:90_000])
    await file.pwrite(90_000, NEW[90_000:])


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])
async def test_a_process_that_dies_leaves_the_old_content_or_the_new(
    pointer_format: int, after: bool, ahead: bool, metadata: bool
) -> None:
    contents = set()
    for position in range(100):
        bench = bench_of(pointer_format, metadata=metadata, ahead=ahead)
        async with await bench.open("x") as file:
            await file.append(OLD)
        file = await bench.open("r+")
        came = fail_at(bench.store, position, after=after, error=Died)
        try:
            await change(file)
            await file.flush()
        except Died:
            pass
        heal(bench.store)
        if not came():
            break
        bench.store.now += 6
        content = await bench.content()
        assert content in (OLD, NEW), f"a mix at write {position}"
        contents.add(content)
        again = await bench.open("r+")
        assert await again.pread(0, again.size) == content
        await bench.check()
        await again.pwrite(0, b"further")
        await again.close()
        assert await bench.content() == b"further" + content[7:]
        await bench.check()
    else:
        pytest.fail("there are not that many writes")
    assert position >= (2 if pointer_format < 3 else 3)
    # With the checkpoint object on the store, the commit counts.
    assert contents == ({NEW} if after and pointer_format < 3 else {OLD, NEW})


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])
async def test_a_flush_that_is_called_again_writes_everything_once(
    pointer_format: int, after: bool, ahead: bool, metadata: bool
) -> None:
    for position in range(100):
        bench = bench_of(pointer_format, metadata=metadata, ahead=ahead)
        async with await bench.open("x") as file:
            await file.append(OLD)
        file = await bench.open("r+")
        came = fail_at(bench.store, position, after=after, error=retry)
        try:
            await change(file)
        except StoreRetry:
            await change(file)
        try:
            result = await file.flush()
        except StoreRetry:
            assert await file.pread(0, file.size) == NEW
            result = await file.flush()
        heal(bench.store)
        assert result is not None
        assert (result.checkpoint, result.size) == (2, len(NEW))
        assert not file.dirty
        assert await bench.content() == NEW
        assert await bench.content(1) == OLD
        assert await bench.numbers() == [2, 1]
        await bench.check()
        assert await file.flush() is None
        if not came():
            break
    else:
        pytest.fail("there are not that many writes")


async def test_after_a_failed_flush_the_next_write_ends_it_first() -> None:
    bench = bench_of(3)
    file = await bench.open("x")
    await file.append(b"first")
    fail_at(bench.store, 1, after=False, error=retry)
    with pytest.raises(StoreRetry):
        await file.flush()
    assert file.dirty
    await file.append(b" second")
    assert await bench.content() == b"first"
    await file.flush()
    assert await bench.content() == b"first second"
    assert await bench.numbers() == [2, 1]


async def test_while_a_failed_flush_cannot_be_ended_nothing_is_written_to_the_file() -> None:
    bench = bench_of(3)
    file = await bench.open("x")
    await file.append(b"first")

    def away(call: Call) -> None:
        raise StoreRetry("away")

    bench.store.before = away
    for _ in range(3):
        with pytest.raises(StoreRetry):
            await file.flush()
        with pytest.raises(StoreRetry):
            await file.append(b"second")
        with pytest.raises(OSError, match="flush"):
            file.set_attributes(mode=0o600)
    heal(bench.store)
    await file.close()
    assert await bench.content() == b"first"


@pytest.mark.parametrize("landed", [True, False])
async def test_what_was_discarded_after_a_failed_flush_may_have_got_through(landed: bool) -> None:
    bench = bench_of(3)
    file = await bench.open("x")
    await file.append(b"first")
    fail_at(bench.store, 0, after=landed, error=retry)
    with pytest.raises(StoreRetry):
        await file.flush()
    heal(bench.store)
    file.discard()
    assert file.size == 0
    # The next change finds out, on its own account: no other writer has to be waited for.
    assert await file.append(b"second") == (5 if landed else 0)
    assert not bench.clock.slept
    await file.flush()
    assert await bench.content() == (b"firstsecond" if landed else b"second")
    await bench.check()


async def test_a_refusal_leaves_the_flush_to_be_ended_later() -> None:
    bench = bench_of(4)
    file = await bench.open("x")
    await file.append(OLD)
    fail_at(bench.store, 0, after=False, error=lambda: StoreRefused("access denied"))
    with pytest.raises(StoreRefused):
        await file.close()
    assert not file.closed
    heal(bench.store)
    await file.close()
    assert await bench.content() == OLD


async def test_a_cancelled_flush_can_be_gone_on_with() -> None:
    bench = bench_of(3)
    file = await bench.open("x")
    data = random.Random(3).randbytes(3_000_000)
    await file.append(data)
    task = asyncio.create_task(file.flush())
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await file.flush()
    assert await bench.content() == data
    await bench.check()


@pytest.mark.parametrize("mode", ["x", "w", "a"])
async def test_a_creation_whose_answer_was_lost_is_found_at_once(mode: str) -> None:
    bench = bench_of(3)
    fail_at(bench.store, 0, after=True, error=retry)
    async with await bench.open(mode) as file:  # type: ignore[arg-type]
        await file.append(b"content")
    assert await bench.content() == b"content"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    metadata=st.booleans(),
    pointer_format=st.sampled_from([1, 2, 3, 4]),
    ahead=st.booleans(),
)
async def test_whatever_answers_are_lost_each_flush_is_one_checkpoint(
    seed: int, metadata: bool, pointer_format: int, ahead: bool
) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    bench = bench_of(pointer_format, metadata=metadata, ahead=ahead)
    file = await bench.open("x")
    content, states = bytearray(), list[bytes]()

    def sometimes(call: Call) -> None:
        if rng.random() < 0.12:
            raise StoreRetry(f"injected operation={call.operation}")

    bench.store.before = bench.store.after = sometimes
    for _ in range(6):
        offset, data = rng.randrange(120_000), rng.randbytes(rng.choice([1, 4096, 60_000]))
        while True:
            try:
                await file.pwrite(offset, data)
                break
            except StoreRetry:
                continue
        content += bytes(max(offset + len(data) - len(content), 0))
        content[offset : offset + len(data)] = data
        while True:
            try:
                assert await file.pread(0, file.size) == content
                await file.flush()
                break
            except StoreRetry:
                continue
        states.append(bytes(content))
    heal(bench.store)
    assert [await bench.content(number) for number in (await bench.numbers())[::-1]] == states
    await bench.check()
    leftover = {name.split(".")[0] for name in bench.objects()}
    assert len(leftover) == len(states), "no number was used up in vain"
