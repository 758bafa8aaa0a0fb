"""Two writers on one container: who wins, byte for byte."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from hf_agent.hyperfile import ConflictError, FileOptions, HyperFile, NoSuchContainer, rollback
from hf_agent.store.base import StoreRetry
from support.files import KEY, FileBench, fail_at, heal, retry
from support.memory_store import Call

BASE = random.Random(1).randbytes(20_000)
FORMATS = pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])


async def two(
    pointer_format: int = 3, base: bytes = BASE, **changes: Any
) -> tuple[FileBench, HyperFile, HyperFile]:
    """A container with `base`, ours (that retries) and theirs, both opened on it."""
    options = FileOptions(block_size=4096, pointer_format=pointer_format, **changes)
    bench = FileBench(options=options)
    async with await bench.open("x") as file:
        await file.append(base)
    ours = await bench.open("r+", options=replace(options, on_conflict="retry"))
    return bench, ours, await bench.open("r+")


@FORMATS
async def test_who_comes_second_fails_and_keeps_its_changes_to_be_looked_at(
    pointer_format: int,
) -> None:
    bench, winner, loser = await two(pointer_format)
    await winner.pwrite(0, b"winner")
    await loser.pwrite(0, b"loser!")
    await winner.flush()
    for _ in range(2):
        with pytest.raises(ConflictError, match=f"key={KEY}"):
            await loser.flush()
        assert await loser.pread(0, 6) == b"loser!"
        assert loser.dirty
    with pytest.raises(OSError, match="unflushed"):
        await loser.refresh()
    loser.discard()
    assert await loser.pread(0, 6) == BASE[:6]
    assert await loser.refresh()
    assert await loser.pread(0, 6) == b"winner"
    await loser.pwrite(0, b"second")
    await loser.close()
    assert await bench.content() == b"second" + BASE[6:]
    await bench.check()


async def test_a_lost_conflict_is_not_forgotten_by_discarding_alone() -> None:
    _, winner, loser = await two()
    await winner.pwrite(0, b"winner")
    await loser.pwrite(0, b"loser!")
    await winner.flush()
    with pytest.raises(ConflictError):
        await loser.flush()
    loser.discard()
    await loser.pwrite(0, b"again!")
    with pytest.raises(ConflictError, match="refresh"):
        await loser.flush()


@FORMATS
async def test_with_retry_their_bytes_in_the_same_block_survive(pointer_format: int) -> None:
    bench, ours, theirs = await two(pointer_format)
    await theirs.pwrite(100, b"theirs")
    await theirs.pwrite(9000, b"T" * 5000)
    await theirs.flush()
    await ours.pwrite(103, b"OURS")
    await ours.pwrite(12_000, b"O" * 100)
    result = await ours.flush()
    assert result is not None
    expected = bytearray(BASE)
    expected[100:106] = b"theirs"
    expected[9000:14_000] = b"T" * 5000
    expected[103:107] = b"OURS"
    expected[12_000:12_100] = b"O" * 100
    assert await bench.content() == expected
    assert await ours.pread(0, ours.size) == expected
    assert await bench.numbers() == [3, 2, 1]
    await bench.check()


Act = Callable[[HyperFile], Coroutine[Any, Any, Any]]

CASES: dict[str, tuple[Act, Act, Callable[[], bytes]]] = {
    "both append: ours wins where both wrote, the longer one stays": (
        lambda f: f.append(b"theirs is longer"),
        lambda f: f.append(b"ours"),
        lambda: BASE + b"ours" + b"theirs is longer"[4:],
    ),
    "they cut the file, we wrote behind the cut: a hole between": (
        lambda f: f.truncate(1000),
        lambda f: f.pwrite(15_000, b"ours"),
        lambda: BASE[:1000] + bytes(14_000) + b"ours",
    ),
    "we cut the file, they wrote behind the cut: it is gone": (
        lambda f: f.append(b"theirs"),
        lambda f: f.truncate(5000),
        lambda: BASE[:5000],
    ),
    "we cut the file, they wrote before the cut: it stays": (
        lambda f: f.pwrite(4990, b"T" * 20),
        lambda f: f.truncate(5000),
        lambda: BASE[:4990] + b"T" * 10,
    ),
    "both cut the file: ours is the size": (
        lambda f: f.truncate(100),
        lambda f: f.truncate(5000),
        lambda: BASE[:100] + bytes(4900),
    ),
    "we made it longer, they made it longer still": (
        lambda f: f.append(b"T" * 500),
        lambda f: f.truncate(len(BASE) + 100),
        lambda: BASE + b"T" * 500,
    ),
    "we made it longer, they wrote a little behind the end": (
        lambda f: f.append(b"T" * 50),
        lambda f: f.truncate(len(BASE) + 100),
        lambda: BASE + b"T" * 50 + bytes(50),
    ),
    "we zeroed what they wrote": (
        lambda f: f.pwrite(0, b"T" * 20_000),
        lambda f: f.zero(4000, 9000),
        lambda: b"T" * 4000 + bytes(9000) + b"T" * 7000,
    ),
    "they zeroed what we wrote": (
        lambda f: f.zero(0, 20_000),
        lambda f: f.pwrite(4000, b"O" * 9000),
        lambda: bytes(4000) + b"O" * 9000 + bytes(7000),
    ),
}


@FORMATS
@pytest.mark.parametrize("case", CASES)
async def test_what_wins(case: str, pointer_format: int) -> None:
    theirs_does, ours_does, expected = CASES[case]
    bench, ours, theirs = await two(pointer_format)
    await ours_does(ours)
    await theirs_does(theirs)
    await theirs.flush()
    await ours.flush()
    assert await bench.content() == expected()
    await bench.check()


async def test_attributes_that_were_set_win_and_others_are_theirs() -> None:
    bench, ours, theirs = await two()
    theirs.set_attributes(mode=0o600, uid=7, mtime_ns=5)
    await theirs.flush()
    ours.set_attributes(mode=0o640, gid=8)
    await ours.flush()
    stat = (await bench.open("r")).stat()
    assert (stat.mode, stat.uid, stat.gid, stat.mtime_ns) == (0o100640, 7, 8, 5)
    assert await bench.content() == BASE


async def test_a_file_opened_with_w_replaces_whatever_came_meanwhile() -> None:
    bench, _, theirs = await two()
    ours = await bench.open("w", options=replace(bench.options, on_conflict="retry"))
    await ours.append(b"all of it")
    await theirs.append(b"theirs")
    await theirs.flush()
    await ours.close()
    assert await bench.content() == b"all of it"


@pytest.mark.parametrize("operation", ["create", "replace"])
@FORMATS
async def test_whoever_comes_in_between_our_own_two_writes_is_built_upon(
    pointer_format: int, operation: str
) -> None:
    part_bytes = 20_000 if pointer_format >= 3 else 1 << 30
    bench, ours, theirs = await two(pointer_format, part_bytes=part_bytes)
    await theirs.pwrite(0, b"theirs")
    data = random.Random(2).randbytes(60_000)
    await ours.pwrite(6, data)
    armed = True

    class InBetween(Exception):
        pass

    def before(call: Call) -> None:
        nonlocal armed
        if armed and call.operation == operation:
            armed = False
            raise InBetween

    bench.store.before = before
    with pytest.raises(InBetween):
        await ours.flush()
    if operation == "replace":
        # Ours counts already, so theirs loses.
        bench.store.now += 6
        with pytest.raises(ConflictError):
            await theirs.flush()
        await ours.flush()
        assert await bench.content() == BASE[:6] + data
    else:
        await theirs.flush()
        await ours.flush()
        assert await bench.content() == b"theirs" + data
    await bench.check()


async def test_blocks_written_ahead_move_to_the_number_that_the_checkpoint_gets() -> None:
    bench, ours, theirs = await two(dirty_bytes=16_384, part_bytes=30_000)
    data = random.Random(2).randbytes(100_000)
    await ours.pwrite(50, data)
    ahead = [name for name in bench.objects() if name.startswith("0000000002.")]
    assert len(ahead) > 2
    assert "0000000002.0" not in ahead
    await theirs.pwrite(0, b"T" * 100)
    await theirs.flush()
    await ours.flush()
    assert await bench.content() == b"T" * 50 + data
    assert await bench.numbers() == [3, 2, 1]
    assert [name for name in bench.objects() if name.startswith("0000000002")] == ["0000000002.0"]
    assert len(ahead) <= len([name for name in bench.objects() if name.startswith("0000000003")])
    await bench.check()


@pytest.mark.parametrize("pointer_format", [3, 4])
async def test_partial_blocks_written_ahead_take_their_other_bytes_from_the_newest_state(
    pointer_format: int,
) -> None:
    base = random.Random(3).randbytes(200_000)
    bench, ours, theirs = await two(pointer_format, base, dirty_bytes=20_000)
    expected = bytearray(base)
    for block in range(40):
        await ours.pwrite(block * 4096 + 1000, b"O" * 10)
        await theirs.pwrite(block * 4096 + 900, b"T" * 200)
        expected[block * 4096 + 900 : block * 4096 + 1100] = b"T" * 200
        expected[block * 4096 + 1000 : block * 4096 + 1010] = b"O" * 10
    assert any(".1" in name for name in bench.objects())
    await theirs.flush()
    await ours.flush()
    assert await bench.content() == expected
    await bench.check()


async def test_a_rebase_that_fails_half_way_can_be_gone_on_with() -> None:
    for position in range(60):
        bench, ours, theirs = await two(dirty_bytes=16_384, part_bytes=30_000)
        data = random.Random(2).randbytes(60_000)
        await ours.pwrite(50, data)
        await theirs.pwrite(0, b"T" * 100)
        await theirs.flush()
        came = fail_at(bench.store, position, after=bool(position % 2), error=retry)
        try:
            await ours.flush()
        except StoreRetry:
            await ours.flush()
        heal(bench.store)
        assert await bench.content() == b"T" * 50 + data
        await bench.check()
        if not came():
            return
    pytest.fail("there are not that many writes")


async def test_many_writers_that_retry_all_get_through() -> None:
    bench, _, _ = await two(base=b"")
    options = replace(bench.options, on_conflict="retry")
    files = [await bench.open("r+", options=options) for _ in range(10)]
    for number, file in enumerate(files):
        await file.pwrite(number * 10, bytes([65 + number]) * 10)
    for file in files:
        await file.close()
    assert await bench.content() == b"".join(bytes([65 + n]) * 10 for n in range(10))
    assert len(await bench.numbers()) == 10


async def test_our_commit_that_others_have_built_on_already_stands() -> None:
    bench, ours, _ = await two()
    await ours.pwrite(0, b"ours")
    fail_at(bench.store, 1, after=False, error=retry)
    with pytest.raises(StoreRetry):
        await ours.flush()
    heal(bench.store)
    bench.store.now += 6
    other = await bench.open("r+")  # finishes our commit
    await other.pwrite(2, b"THEIRS")
    await other.flush()
    result = await ours.flush()
    assert result is not None
    assert result.checkpoint == 2
    assert await bench.content() == b"ouTHEIRS" + BASE[8:]
    await ours.pwrite(0, b"OU")
    await ours.flush()
    assert await bench.content() == b"OUTHEIRS" + BASE[8:]
    assert await bench.numbers() == [4, 3, 2, 1]
    await bench.check()


async def test_a_container_removed_meanwhile_is_named_and_not_made_again() -> None:
    bench, ours, _ = await two()
    await ours.pwrite(0, b"ours")
    del bench.store.objects[f"{KEY}/inode"]
    with pytest.raises(NoSuchContainer):
        await ours.flush()
    assert f"{KEY}/inode" not in bench.store.objects


async def test_another_container_with_other_blocks_is_a_conflict_also_for_who_retries() -> None:
    bench, ours, _ = await two()
    await ours.pwrite(0, b"ours" * 1024)
    for name in list(bench.store.objects):
        del bench.store.objects[name]
    async with await bench.open("x", options=FileOptions(block_size=8192)) as file:
        await file.append(b"another")
    with pytest.raises(ConflictError, match="another container"):
        await ours.flush()


async def test_rolling_back_fails_or_wins_as_it_is_told() -> None:
    bench, ours, theirs = await two()
    await ours.truncate(0)
    await ours.flush()

    def interrupt(call: Call) -> None:
        if call.operation == "create":
            bench.store.before = lambda call: None
            stored = bench.store.objects[f"{KEY}/inode"]
            bench.store.put(f"{KEY}/inode", stored.body[:56] + b"\1" + stored.body[57:])

    for on_conflict in ("fail", "retry"):
        bench.store.before = interrupt
        options = replace(bench.options, on_conflict=on_conflict)
        call = rollback(bench.store, KEY, 1, clock=bench.clock, rng=bench.rng, options=options)
        if on_conflict == "fail":
            with pytest.raises(ConflictError):
                await call
        else:
            await call
    assert await bench.content() == BASE
    assert theirs.size == len(BASE)
