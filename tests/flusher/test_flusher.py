"""What the flusher stores, whatever the store does meanwhile: everything, once, in order."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Appender
from hf_agent.ingest.sink import Rejected
from hf_agent.store.base import StoreRefused, StoreRetry
from hf_agent.wal import OsDisk, WalConfig
from hf_agent.wal.disk import Buffer
from support.flushing import Flushing
from support.memory_store import Call, MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
async def agent(tmp_path: Path, store: MemoryStore) -> AsyncIterator[Flushing]:
    flushing = await Flushing(tmp_path / "wal", store).start()
    yield flushing
    await flushing.stop()


class FailOnce:
    """Fails the n-th call of an operation, counted from 0."""

    def __init__(self, operation: str, which: int, failed: asyncio.Event) -> None:
        self._operation = operation
        self._left = which
        self._failed = failed

    def __call__(self, call: Call) -> None:
        if call.operation == self._operation:
            self._left -= 1
            if self._left == -1:
                self._failed.set()
                raise StoreRetry("connection reset")


async def foreign_append(store: MemoryStore, key: str, data: bytes) -> None:
    """Another writer appends to a container, as a copied agent or an operator would."""
    rng = random.Random(99)
    writer = await Appender.open(
        store, key, clock=SystemClock(), rng=rng, writer_id=b"somebody elses!!"
    )
    build = await writer.begin(len(data))
    build.body[:] = data
    await writer.commit(build, position=len(data))


async def test_a_flush_stores_what_was_appended_and_answers_when_it_is_there(
    agent: Flushing,
) -> None:
    await agent.put("app", b"one\n", b"two\n")
    await agent.flush("app")
    assert await agent.stored("n/app") == b"one\ntwo\n"
    assert agent.intake.states["app"].unflushed == 0
    await agent.put("app", b"three\n")
    await agent.flush()
    assert await agent.stored("n/app") == b"one\ntwo\nthree\n"


async def test_old_bytes_are_flushed_when_the_interval_is_over(
    tmp_path: Path, store: MemoryStore
) -> None:
    agent = await Flushing(tmp_path / "wal", store, interval=0.02).start()
    done = asyncio.Event()
    await agent.put("app", b"data")
    agent.intake.states["app"].waiters.add(4, done.set)
    await asyncio.wait_for(done.wait(), 30)
    assert await agent.stored("n/app") == b"data"
    await agent.stop()


async def test_enough_bytes_are_flushed_before_the_interval_is_over(agent: Flushing) -> None:
    done = asyncio.Event()
    await agent.put("app", bytes(60_000))
    # Before there is enough: the flush may be over before the last of it is durable.
    agent.intake.states["app"].waiters.add(1_000_000, done.set)
    for _ in range(19):
        await agent.put("app", bytes(60_000))
    await asyncio.wait_for(done.wait(), 30)


async def test_flushing_a_stream_that_nobody_wrote_is_refused(agent: Flushing) -> None:
    with pytest.raises(Rejected, match="no such stream"):
        await agent.intake.flush("nobody")


async def test_after_a_restart_only_what_the_store_lacks_is_stored(
    agent: Flushing, store: MemoryStore
) -> None:
    await agent.put("app", b"before ")
    await agent.flush()
    await agent.put("app", b"between ")
    await agent.restart()
    await agent.put("app", b"after")
    await agent.flush()
    assert await agent.stored("n/app") == b"before between after"


async def test_a_restart_before_the_first_flush_stores_everything(agent: Flushing) -> None:
    await agent.put("app", b"a")
    await agent.restart()
    await agent.restart()
    await agent.flush()
    assert await agent.stored("n/app") == b"a"


async def test_an_existing_container_is_continued_at_its_end(
    agent: Flushing, store: MemoryStore
) -> None:
    inode = Appender.prepare_inode(1.0, 4096)
    await Appender.create(
        store,
        "n/app",
        inode,
        clock=SystemClock(),
        rng=random.Random(1),
        writer_id=b"somebody elses!!",
        mark="m",
    )
    await foreign_append(store, "n/app", b"old ")
    await agent.put("app", b"new")
    await agent.flush()
    assert await agent.stored("n/app") == b"old new"
    await agent.restart()
    await agent.put("app", b"er")
    await agent.flush()
    assert await agent.stored("n/app") == b"old newer"


@pytest.mark.parametrize("operation", ["create", "replace"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("restart", [False, True])
async def test_an_answer_lost_at_any_write_stores_everything_once(
    agent: Flushing, store: MemoryStore, operation: str, when: str, restart: bool
) -> None:
    expected = b""
    for number in range(12):
        failed = asyncio.Event()

        setattr(store, when, FailOnce(operation, number % 3, failed))
        data = b"%d." % number
        await agent.put("app", data)
        expected += data
        if restart:
            agent.flusher.urge("app", force=True)
            flushed = asyncio.Event()
            agent.intake.states["app"].waiters.add(len(expected), flushed.set)
            waits = [asyncio.ensure_future(event.wait()) for event in (failed, flushed)]
            await asyncio.wait(waits, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await agent.restart()
        await agent.flush()
        setattr(store, when, lambda call: None)
        assert await agent.stored("n/app") == expected


async def test_a_store_that_is_away_for_a_while_gets_everything_when_it_is_back(
    agent: Flushing, store: MemoryStore
) -> None:
    refused = asyncio.Event()
    tries = 0

    def away(call: Call) -> None:
        nonlocal tries
        tries += 1
        if tries == 10:
            refused.set()
        raise StoreRetry("no route to host")

    store.before = away
    for number in range(5):
        await agent.put(f"s{number}", b"x" * number + b".")
        agent.flusher.urge(f"s{number}")
    await asyncio.wait_for(refused.wait(), 30)
    assert agent.flusher.store_away is True
    store.before = lambda call: None
    await agent.flush()
    back: bool = agent.flusher.store_away
    assert back is False
    for number in range(5):
        assert await agent.stored(f"n/s{number}") == b"x" * number + b"."


async def test_a_refusing_store_keeps_the_data_and_says_why_until_it_takes_it(
    agent: Flushing, store: MemoryStore
) -> None:
    refused = asyncio.Event()

    def refuse(call: Call) -> None:
        refused.set()
        raise StoreRefused("access denied bucket=b")

    store.before = refuse
    await agent.put("app", b"kept")
    agent.flusher.urge("app")
    await asyncio.wait_for(refused.wait(), 30)
    for _ in range(100):
        if agent.flusher.refused:
            break
        await asyncio.sleep(0.01)
    assert "access denied" in agent.flusher.refused["app"]
    store.before = lambda call: None
    await agent.flush()
    assert agent.flusher.refused == {}
    assert await agent.stored("n/app") == b"kept"


@pytest.mark.parametrize("restart", [False, True])
async def test_a_foreign_writer_sends_the_stream_to_a_sibling_and_both_keep_everything(
    agent: Flushing, store: MemoryStore, restart: bool
) -> None:
    await agent.put("app", b"ours ")
    await agent.flush()
    await foreign_append(store, "n/app", b"theirs ")
    await agent.put("app", b"ours again")
    if restart:
        await agent.restart()
    await agent.flush()
    assert await agent.stored("n/app") == b"ours theirs "
    siblings = sorted({key.rsplit("/", 1)[0] for key in store.objects if ".conflict-" in key})
    assert len(siblings) == 1
    assert await agent.stored(siblings[0]) == b"ours again"
    assert agent.intake.states["app"].diverted
    assert agent.metrics.store_conflicts._value.get() == 1

    await agent.restart()
    await agent.put("app", b", and on")
    await agent.flush()
    assert await agent.stored(siblings[0]) == b"ours again, and on"


async def test_bytes_of_another_writer_are_never_taken_for_ours_after_a_restart(
    agent: Flushing, store: MemoryStore
) -> None:
    """Going by the size alone would take the other writer's ten bytes for these ten."""
    await agent.put("app", b"0123456789")
    await agent.flush()
    await agent.put("app", b"abcdefghij")
    await foreign_append(store, "n/app", b"ABCDEFGHIJ")
    await agent.restart()
    await agent.flush()
    everything = [await agent.stored(key[:-6]) for key in store.objects if key.endswith("/inode")]
    assert sorted(everything) == [b"0123456789ABCDEFGHIJ", b"abcdefghij"]


async def test_a_new_key_template_starts_a_new_container_and_stores_nothing_twice(
    agent: Flushing, store: MemoryStore
) -> None:
    await agent.put("app", b"old ")
    await agent.flush()
    agent.template = "new/{stream}"
    await agent.put("app", b"new")
    await agent.restart()
    await agent.flush()
    assert await agent.stored("n/app") == b"old "
    assert await agent.stored("new/app") == b"new"


async def test_a_container_that_was_removed_is_created_again_for_what_comes(
    agent: Flushing, store: MemoryStore
) -> None:
    await agent.put("app", b"gone ")
    await agent.flush()
    store.objects.clear()
    await agent.put("app", b"new")
    await agent.flush()
    assert await agent.stored("n/app") == b"new"


class StuckDisk(OsDisk):
    """Writes and syncs wait while it is stuck."""

    def __init__(self) -> None:
        self.moves = threading.Event()
        self.moves.set()

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        self.moves.wait()
        return super().pwritev_sync(fd, buffers, offset)


async def test_a_stream_whose_bytes_are_not_durable_yet_is_not_flushed_over_and_over(
    tmp_path: Path, store: MemoryStore
) -> None:
    """While a client waited for the store and the disk was stuck or full, the flusher started one
    flush after the other, each of which found nothing durable: a whole core, for as long."""
    disk = StuckDisk()
    agent = await Flushing(tmp_path / "wal", store, disk=disk).start()
    await agent.put("app", b"first\n")
    await agent.flush("app")
    runs = []
    flush = agent.flusher._flushes["app"]
    run = flush.run
    flush.run = lambda: runs.append(1) or run()  # type: ignore[method-assign,func-returns-value]
    disk.moves.clear()
    # Large enough not to be written on the loop.
    receipt = agent.intake.append("app", bytes(20 << 10), records=1, mark=None)
    stored = asyncio.Event()
    agent.intake.notify_stored("app", receipt.position, stored.set)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(runs) == 1
    disk.moves.set()
    await asyncio.wait_for(stored.wait(), 30)
    await agent.stop()


async def test_a_full_wal_takes_appends_again_once_the_store_has_taken_some(
    tmp_path: Path, store: MemoryStore
) -> None:
    def away(call: Call) -> None:
        raise StoreRetry("no route to host")

    store.before = away
    config = WalConfig(
        file_bytes=256 << 10,
        max_bytes=1 << 20,
        max_record_bytes=32 << 10,
        max_batch_bytes=64 << 10,
        max_pending_bytes=64 << 10,
    )
    agent = await Flushing(tmp_path / "wal", store, wal=config).start()
    sent = 0
    full = asyncio.Event()
    agent.metrics.ingestion_paused.set = (  # type: ignore[method-assign]
        lambda value: full.set() if value else full.clear()
    )
    while not full.is_set():
        if agent.intake.accepts():
            agent.intake.append("app", b"%08d" % sent + bytes(30_000), records=1, mark=None)
            sent += 1
        await asyncio.sleep(0)
    assert not agent.intake.accepts()
    room = asyncio.Event()
    agent.intake.notify_room(room.set)
    store.before = lambda call: None
    agent.flusher.relieve_wal()
    await asyncio.wait_for(room.wait(), 30)
    await agent.flush()
    stored = await agent.stored("n/app")
    assert len(stored) == sent * 30_008
    assert [int(stored[at : at + 8]) for at in range(0, len(stored), 30_008)] == list(range(sent))
    await agent.stop()


async def test_random_faults_and_restarts_store_every_stream_once_and_in_order(
    tmp_path: Path,
) -> None:
    for seed in range(15):
        print(f"seed={seed}")
        rng = random.Random(seed)
        store = MemoryStore(metadata=rng.random() < 0.5)

        def fault(call: Call, rng: random.Random = rng, rate: float = rng.uniform(0, 0.08)) -> None:
            if rng.random() < rate:
                raise StoreRetry("fault")

        store.before = store.after = fault
        agent = await Flushing(
            tmp_path / f"wal-{seed}", store, seed=seed, interval=0.005, flush_bytes=20_000
        ).start()
        expected: dict[str, bytes] = {}
        for number in range(80):
            name = rng.choice("abc")
            data = b"<%d>" % number + rng.randbytes(rng.choice((0, 10, 3000, 20_000)))
            await agent.put(name, data)
            expected[name] = expected.get(name, b"") + data
            if rng.random() < 0.1:
                await agent.restart()
            if rng.random() < 0.1:
                await agent.flush(name)
        await agent.flush()
        store.before = store.after = lambda call: None
        for name, content in expected.items():
            assert await agent.stored(f"n/{name}") == content, f"seed={seed}"
        await agent.stop()
