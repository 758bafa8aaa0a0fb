"""Two agents on one key, race by race: what either was given is stored once, and by one diversion.

The agents share a store and have a write-ahead log each. Who loses is decided by a conditional
write; the tests hold one agent's call up until the other has come to where it matters.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import structlog

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Appender
from hf_agent.hyperfile.opening import reach_state
from hf_agent.store.base import StoreConflict, StoreRetry
from support.flushing import Flushing
from support.memory_store import MemoryStore
from support.shared_key import check_exactly_once, read_family
from support.store_front import StoreFront, When

KEY = "n/app"
SEEDS = int(os.environ.get("HF_RACE_SEEDS", "20"))


class LookingClock(SystemClock):
    """The second between two looks at a half-done commit passes on the store's clock alone."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def sleep(self, seconds: float) -> None:
        if 0.5 <= seconds <= 2:
            self._store.now += seconds
            seconds = 0
        await asyncio.sleep(seconds)


class Writer(Flushing):
    """An agent, what it was given, and its way to the store."""

    def __init__(self, name: str, folder: Path, store: MemoryStore, *, seed: int) -> None:
        self.front = StoreFront(store)
        super().__init__(folder / name, self.front, seed=seed, clock=LookingClock(store))
        self.name = name.encode()
        self.given: list[bytes] = []

    async def give(self, count: int = 1) -> None:
        """Append some lines, and have them durable."""
        for _ in range(count):
            line = b"%s %d\n" % (self.name, len(self.given))
            self.given.append(line)
            await self.put("app", line)

    async def store_more(self, count: int = 1) -> None:
        """Append some lines, and have them stored."""
        await self.give(count)
        await self.flush("app")

    async def store_in_background(self) -> asyncio.Task[None]:
        await self.give()
        return asyncio.ensure_future(self.flush("app"))

    @property
    def key(self) -> str:
        """The container that the stream was last flushed to."""
        return self.intake.states["app"].key


class Pair:
    """Two writers on one store."""

    def __init__(self, store: MemoryStore, a: Writer, b: Writer) -> None:
        self.store = store
        self.a = a
        self.b = b

    async def check(self, *, siblings: int) -> None:
        """All of it once and in order; so many siblings, and each container whole."""
        family = await read_family(self.store, KEY)
        assert len(family) == 1 + siblings, list(family)
        check_exactly_once(
            family, {writer.name + b" ": writer.given for writer in (self.a, self.b)}
        )

    async def finish(self, *, siblings: int) -> None:
        """Both go on, through a restart; nothing changes any more about who writes where."""
        for writer in (self.a, self.b):
            await writer.store_more()
        await self.check(siblings=siblings)
        before = self.a.key, self.b.key
        for writer in (self.a, self.b):
            await writer.restart()
            assert writer.intake.states["app"].key in before, "known before the first flush"
            await writer.store_more()
            assert writer.conflicts == 0, "no conflict without cause after a restart"
        assert (self.a.key, self.b.key) == before
        await self.check(siblings=siblings)


@pytest.fixture(params=[True, False], ids=["metadata", "no-metadata"])
async def pair(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Pair]:
    store = MemoryStore(metadata=request.param)
    writers = [
        await Writer(name, tmp_path, store, seed=seed).start() for seed, name in enumerate("AB")
    ]
    a, b = writers
    assert isinstance(a, Writer) and isinstance(b, Writer)
    yield Pair(store, a, b)
    for writer in writers:
        await writer.stop()


async def gone_on(pair: Pair, writer: Writer, *, commits: int) -> None:
    """Somebody writes many checkpoints on top of all that is there."""
    clock, rng = LookingClock(pair.store), random.Random(5)
    appender = await Appender.open(
        pair.store, KEY, clock=clock, rng=rng, writer_id=b"somebody elses!!"
    )
    for number in range(commits):
        line = b"%s %d\n" % (writer.name, len(writer.given))
        writer.given.append(line)
        build = await appender.begin(len(line))
        build.body[:] = line
        await appender.commit(build, position=number + 1)


# -- who loses ---------------------------------------------------------------------------------


async def test_the_one_that_loses_the_commit_goes_to_a_sibling_and_says_so_once(
    pair: Pair,
) -> None:
    await pair.a.store_more()
    await pair.b.store_more()
    assert pair.a.key == pair.b.key == KEY, "a container that is there is gone on with"
    with structlog.testing.capture_logs() as logs:
        await pair.a.store_more()
        await pair.a.store_more()
    assert pair.a.key.startswith(f"{KEY}.conflict-")
    assert pair.b.key == KEY
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert len(errors) == 1
    assert errors[0]["stream"] == "app"
    assert (errors[0]["container"], errors[0]["sibling"]) == (KEY, pair.a.key)
    assert (pair.a.conflicts, pair.b.conflicts) == (1, 0)
    row = pair.a.intake.states["app"].describe()
    assert (row["diverted"], row["conflicts"], row["key"]) == (True, 1, pair.a.key)
    assert row["last_conflict_timestamp"] > 0
    await pair.finish(siblings=1)


async def test_both_create_the_container_at_once_and_the_slower_one_begins_behind(
    pair: Pair,
) -> None:
    hold = pair.a.front.pause("create", "/inode")
    flush = await pair.a.store_in_background()
    await hold.wait()
    await pair.b.store_more()
    hold.release()
    await flush
    assert pair.a.conflicts == 0, "nobody has lost a commit yet"
    assert list(await read_family(pair.store, KEY)) == [KEY]
    await pair.b.store_more()
    assert (pair.a.conflicts, pair.b.conflicts) == (0, 1)
    await pair.finish(siblings=1)


async def test_the_other_commits_between_our_creation_and_our_opening(pair: Pair) -> None:
    """Positions that were bound to the empty container would be found nowhere after a crash."""
    hold = pair.a.front.pause("create", "/inode", "after")
    flush = await pair.a.store_in_background()
    await hold.wait()
    await pair.b.store_more(3)
    lost = pair.a.front.pause("replace", "/inode", "after")
    hold.release()
    await lost.wait()
    flush.cancel()
    await pair.a.restart()
    await pair.a.flush()
    await pair.check(siblings=0)
    await pair.b.store_more()
    assert pair.b.conflicts == 1
    await pair.finish(siblings=1)


async def test_a_creation_that_was_lost_is_no_conflict_even_if_the_answer_is_lost_as_well(
    pair: Pair,
) -> None:
    hold = pair.a.front.pause("create", "/inode")
    flush = await pair.a.store_in_background()
    await hold.wait()
    await pair.b.store_more(2)
    lost = True

    async def disturb(operation: str, key: str, when: When) -> None:
        nonlocal lost
        if lost and operation in ("head", "get") and when == "before":
            lost = False
            raise StoreRetry("connection reset")

    pair.a.front.disturb = disturb
    hold.release()
    await flush
    assert not lost
    assert pair.a.conflicts == 0
    await pair.check(siblings=0)


async def test_three_writers_leave_one_container_and_two_siblings(
    tmp_path: Path, pair: Pair
) -> None:
    third = Writer("C", tmp_path, pair.store, seed=9)
    await third.start()
    for _ in range(4):
        await asyncio.gather(*(each.store_more() for each in (pair.a, pair.b, third)))
    family = await read_family(pair.store, KEY)
    assert len(family) == 3
    check_exactly_once(family, {each.name + b" ": each.given for each in (pair.a, pair.b, third)})
    assert pair.a.conflicts + pair.b.conflicts + third.conflicts == 2
    await third.stop()


# -- half-done commits -------------------------------------------------------------------------


@pytest.mark.parametrize("on_top", [False, True])
async def test_a_commit_that_the_other_finishes_for_us_counts_once(
    pair: Pair, on_top: bool
) -> None:
    """Our swap of the inode takes so long that the other writer takes us for dead."""
    await pair.a.store_more()
    hold = pair.a.front.pause("replace", "/inode")
    flush = await pair.a.store_in_background()
    await hold.wait()
    between = pair.b.front.pause("create", "/0000000003.0")
    other = await pair.b.store_in_background()
    await between.wait()
    assert (await reach_state(pair.store, KEY)).taken_up == (), "the other has finished our commit"
    if on_top:
        between.release()
        await other
    hold.release()
    await flush
    assert pair.a.conflicts == 0, "what was to be stored is stored"
    if not on_top:
        between.release()
        await other
    await pair.check(siblings=0)
    await pair.a.store_more()
    assert (pair.a.conflicts, pair.b.conflicts) == (1, 0)
    await pair.finish(siblings=1)


async def test_the_slower_one_loses_to_a_half_done_commit_and_the_dead_writers_counts(
    pair: Pair,
) -> None:
    """A has created its checkpoint and dies; B, which was bound already, may not overtake it."""
    await pair.a.store_more()
    await pair.b.store_more()
    hold = pair.b.front.pause("replace", "/inode")
    flush = await pair.b.store_in_background()
    await hold.wait()
    flush.cancel()
    await pair.b.stop()
    await pair.a.store_more()
    assert pair.a.conflicts == 1, "A was bound below B's commits"
    await pair.b.start()
    await pair.b.flush()
    assert pair.b.conflicts == 0
    await pair.finish(siblings=1)


@pytest.mark.parametrize("commits", [1, 1200])
@pytest.mark.parametrize("fails", [False, True])
async def test_our_last_commit_is_found_however_much_the_other_has_written_on_top(
    pair: Pair, commits: int, fails: bool
) -> None:
    """A dies after creating its checkpoint; B's many checkpoints come before A is back."""
    await pair.a.store_more(2)
    hold = pair.a.front.pause("replace", "/inode")
    flush = await pair.a.store_in_background()
    await hold.wait()
    flush.cancel()
    await pair.a.stop()
    await gone_on(pair, pair.b, commits=commits)
    await pair.a.start()
    reads = 0

    async def disturb(operation: str, key: str, when: When) -> None:
        nonlocal reads
        reads += (operation, when) == ("get", "before")
        if fails and (operation, when) == ("get", "before") and reads % 300 == 0:
            raise StoreRetry("connection reset")

    pair.a.front.disturb = disturb
    await pair.a.give()
    await pair.a.flush()
    await pair.check(siblings=1)
    assert pair.a.conflicts == 1
    headers = [key for key in pair.a.front.gets if key.endswith(".0")]
    assert len(headers) < 1.5 * commits + 100, "an interrupted search goes on where it was"


# -- answers that are lost, and writes that land late ----------------------------------------------


async def test_our_commit_whose_answer_was_lost_is_found_below_the_others(pair: Pair) -> None:
    await pair.a.store_more()
    hold = pair.a.front.pause("create", "/0000000002.0", "after")
    flush = await pair.a.store_in_background()
    await hold.wait()

    async def lose(operation: str, key: str, when: When) -> None:
        if operation == "create" and when == "after":
            pair.a.front.disturb = None
            # The next try comes after the other has gone on.
            await pair.b.store_more(2)
            raise StoreRetry("connection reset")

    pair.a.front.disturb = lose
    hold.release()
    await flush
    await pair.a.store_more()
    assert (pair.a.conflicts, pair.b.conflicts) == (1, 0)
    await pair.finish(siblings=1)


async def test_a_commit_that_lands_after_the_diversion_is_refused(pair: Pair) -> None:
    await pair.a.store_more()
    late = pair.a.front.delay("create", "/0000000002.0")
    hold = pair.a.front.pause("get", "/inode")
    flush = await pair.a.store_in_background()
    await late.wait()
    await hold.wait()
    await pair.b.store_more()
    hold.release()
    await flush
    assert pair.a.conflicts == 1
    with pytest.raises(StoreConflict):
        await late.land()
    await pair.finish(siblings=1)


async def test_a_commit_of_ours_that_lands_before_its_resend_is_no_conflict(pair: Pair) -> None:
    await pair.a.store_more()
    late = pair.a.front.delay("create", "/0000000002.0")
    hold = pair.a.front.pause("create", "/0000000002.0")
    flush = await pair.a.store_in_background()
    await hold.wait()
    await late.land()
    hold.release()
    await flush
    assert pair.a.conflicts == 0
    await pair.check(siblings=0)


# -- the sibling -----------------------------------------------------------------------------------


async def diverted(pair: Pair) -> str:
    """Have A lose; returns its sibling's key."""
    await pair.a.store_more()
    await pair.b.store_more()
    await pair.a.store_more()
    return pair.a.key


async def test_a_crash_before_the_sibling_is_there_leads_to_no_second_one(pair: Pair) -> None:
    await pair.a.store_more()
    await pair.b.store_more()
    hold = pair.a.front.pause("create", "/inode")
    flush = await pair.a.store_in_background()
    await hold.wait()
    assert pair.a.conflicts == 1
    flush.cancel()
    with structlog.testing.capture_logs() as logs:
        await pair.a.restart()
        await pair.a.flush()
    assert pair.a.conflicts == 0
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    await pair.finish(siblings=1)


async def test_a_sibling_created_late_keeps_the_stream(pair: Pair) -> None:
    """The first creation lands after the second was decided on: it must not lead back to KEY."""
    await pair.a.store_more()
    await pair.b.store_more()
    late = pair.a.front.delay("create", "/inode")
    hold = pair.a.front.pause("create", "/inode")
    flush = await pair.a.store_in_background()
    await late.wait()
    await hold.wait()
    await late.land()
    hold.release()
    await flush
    assert pair.a.key.startswith(f"{KEY}.conflict-")
    assert pair.a.conflicts == 1
    await pair.finish(siblings=1)


async def test_a_writer_in_the_sibling_makes_no_more_siblings_and_is_reported_once(
    pair: Pair,
) -> None:
    sibling = await diverted(pair)
    clock, rng = LookingClock(pair.store), random.Random(5)
    with structlog.testing.capture_logs() as logs:
        for number in range(3):
            other = await Appender.open(
                pair.store, sibling, clock=clock, rng=rng, writer_id=b"somebody elses!!"
            )
            build = await other.begin(2)
            build.body[:] = b"?\n"
            await other.commit(build, position=number)
            await pair.a.store_more()
    assert pair.a.key == sibling
    assert pair.a.conflicts == 4
    errors = [entry["event"] for entry in logs if entry["log_level"] == "error"]
    assert len(errors) == 1
    assert "sibling" in errors[0]
    family = await read_family(pair.store, KEY)
    assert len(family) == 2
    assert family[sibling].count(b"?\n") == 3
    family[sibling] = family[sibling].replace(b"?\n", b"")
    check_exactly_once(family, {each.name + b" ": each.given for each in (pair.a, pair.b)})


# -- a copied write-ahead log ----------------------------------------------------------------------


async def test_agents_on_copies_of_one_log_do_not_take_each_others_bytes_for_their_own(
    tmp_path: Path,
) -> None:
    """Same id, same bind, same lengths: only their bytes tell the other's commits from ours."""
    store = MemoryStore()
    a = Writer("A", tmp_path, store, seed=1)
    await a.start()
    await a.store_more(3)
    await a.stop()
    shutil.copytree(tmp_path / "A", tmp_path / "B")
    b = Writer("B", tmp_path, store, seed=2)
    await a.start()
    await b.start()
    assert a.wal.id == b.wal.id
    await b.give(3)
    await a.store_more(2)
    await b.store_more()
    await a.store_more()
    assert (a.conflicts, b.conflicts) == (0, 1)
    await Pair(store, a, b).finish(siblings=1)
    await a.stop()
    await b.stop()


# -- everything at once ----------------------------------------------------------------------------


async def torment(
    writer: Writer, rng: random.Random, rounds: int, late: list[Callable[[], Awaitable[object]]]
) -> None:
    """Give lines, flush and restart, with calls that take their time, fail, and land late."""

    async def disturb(operation: str, key: str, when: When) -> None:
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        if rng.random() < 0.04:
            raise StoreRetry("fault")
        if operation in ("create", "replace") and rng.random() < 0.02:
            held = writer.front.delay(operation, key.rpartition("/")[2])

            async def land() -> None:
                if held.write is not None:
                    await held.land()

            late.append(land)

    writer.front.disturb = disturb
    for _ in range(rounds):
        await writer.give(rng.randrange(1, 4))
        if rng.random() < 0.5:
            writer.flusher.urge("app", force=True)
        if rng.random() < 0.3:
            await writer.flush("app")
        if rng.random() < 0.15:
            await writer.restart()
        while late and rng.random() < 0.3:
            try:
                await late.pop(rng.randrange(len(late)))()
            except StoreConflict:
                pass  # it came too late
    await writer.flush("app")


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_random_races_faults_and_restarts_store_everything_of_both_once(
    tmp_path: Path, seed: int
) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    store = MemoryStore(metadata=rng.random() < 0.5)
    a = Writer("A", tmp_path, store, seed=2 * seed)
    b = Writer("B", tmp_path, store, seed=2 * seed + 1)
    await a.start()
    await b.start()
    late: list[Callable[[], Awaitable[object]]] = []
    await asyncio.gather(
        torment(a, random.Random(seed + 100), 40, late),
        torment(b, random.Random(seed + 200), 40, late),
    )
    for land in late:
        try:
            await land()
        except StoreConflict:
            pass
    a.front.disturb = b.front.disturb = None
    store.now += 60
    pair = Pair(store, a, b)
    for writer in (a, b):
        await writer.store_more()
    await pair.check(siblings=len(await read_family(store, KEY)) - 1)
    assert len(await read_family(store, KEY)) <= 2, "at most one of two goes away"
    await a.stop()
    await b.stop()
