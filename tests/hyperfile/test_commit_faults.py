"""Commits through lost answers, taken numbers, compactors and other writers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import (
    AppenderStateError,
    CheckpointsExhausted,
    ConflictError,
    NoSuchContainer,
    fingerprint,
)
from hf_agent.hyperfile.appender import Appender
from hf_agent.store.base import StoreConflict, StoreRefused, StoreRetry
from support.appending import (
    KEY,
    OTHER_WRITER,
    WRITER,
    Bench,
    append,
    begin,
    fail_once,
    newest_trailer,
    run_once,
)
from support.container_check import with_compaction
from support.golden import GOLDEN
from support.memory_store import Call, MemoryStore

OBJECT = "/0000000001.0"
INODE = "/inode"


async def started(*, metadata: bool = True) -> tuple[Bench, Appender]:
    bench = Bench(store=MemoryStore(metadata=metadata))
    return bench, await bench.create()


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize(("operation", "suffix"), [("create", OBJECT), ("replace", INODE)])
async def test_a_failed_write_is_made_once_by_calling_again(
    metadata: bool, after: bool, operation: str, suffix: str
) -> None:
    bench, appender = await started(metadata=metadata)
    fail_once(bench.store, operation, suffix, after=after)
    build = await begin(appender, b"data" * 5000)
    with pytest.raises(StoreRetry):
        await appender.commit(build, position=20_000)
    bench.clock.now += 60
    result = await appender.commit(build, position=20_000)
    assert result.checkpoint == 1
    assert bench.check() == {1: b"data" * 5000}
    await append(appender, b"next")
    assert bench.check()[2] == b"data" * 5000 + b"next"


async def test_a_resend_has_the_same_bytes_and_mark() -> None:
    bench, appender = await started()
    marks: list[tuple[str, bytes]] = []

    def before(call: Call) -> None:
        if call.operation == "create":
            marks.append((call.key, call.body))
            if len(marks) < 3:
                raise StoreRetry("injected")

    bench.store.before = before
    build = await begin(appender, b"abc")
    for _ in range(2):
        with pytest.raises(StoreRetry):
            await appender.commit(build, position=3)
        bench.clock.now += 1
    await appender.commit(build, position=3)
    assert len(marks) == 3
    assert len(set(marks)) == 1
    metadata = bench.store.objects[f"{KEY}/0000000001.0"].metadata
    assert len(metadata["hf-write"]) == 26
    assert metadata["hf-write"] != bench.store.objects[f"{KEY}/inode"].metadata["hf-write"]


async def test_a_creation_whose_answer_was_lost_succeeds_when_sent_again() -> None:
    bench = Bench()
    fail_once(bench.store, "create", INODE, after=True)
    with pytest.raises(StoreRetry):
        await bench.create()
    assert (await bench.create()).size == 0


async def test_no_other_build_is_begun_while_a_commit_is_unfinished() -> None:
    bench, appender = await started()
    fail_once(bench.store, "create", OBJECT, after=False)
    build = await begin(appender, b"abc")
    with pytest.raises(StoreRetry):
        await appender.commit(build, position=3)
    with pytest.raises(AppenderStateError):
        await appender.begin(1)
    with pytest.raises(AppenderStateError):
        await appender.commit(build, position=4)
    appender.drop_cache()
    await appender.commit(build, position=3)
    assert bench.check() == {1: b"abc"}


async def test_a_refusal_by_the_store_leaves_the_commit_resumable() -> None:
    bench, appender = await started()

    def refuse(call: Call) -> None:
        if call.operation == "replace":
            raise StoreRefused("access denied")

    bench.store.before = refuse
    build = await begin(appender, b"abc")
    with pytest.raises(StoreRefused):
        await appender.commit(build, position=3)
    bench.store.before = lambda call: None
    await appender.commit(build, position=3)
    assert bench.check() == {1: b"abc"}


async def test_a_commit_cancelled_while_it_is_sealed_can_be_resumed() -> None:
    bench, appender = await started()
    data = random.Random(3).randbytes(3_000_000)
    build = await begin(appender, data)
    task = asyncio.create_task(appender.commit(build, position=len(data)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await appender.commit(build, position=len(data))
    assert bench.check() == {1: data}


@pytest.mark.parametrize("metadata", [True, False])
async def test_a_number_taken_by_other_bytes_is_skipped(metadata: bool) -> None:
    bench, appender = await started(metadata=metadata)
    build = await begin(appender, b"abc" * 10_000)
    bench.store.put(f"{KEY}/0000000001.0", b"garbage")
    bench.store.put(f"{KEY}/0000000002.1", b"a lone part")
    bench.store.put(f"{KEY}/0000000003.0", bytes(len(build.object)))
    result = await appender.commit(build, position=30_000)
    assert result.checkpoint == 4
    marks = [call.metadata["hf-write"] for call in bench.store.calls if call.operation == "create"]
    assert len(marks) == len(set(marks)) == 3, "another key is another write"
    assert bench.check() == {4: b"abc" * 10_000}
    assert (await append(appender, b"d")).checkpoint == 5
    assert bench.check()[5] == b"abc" * 10_000 + b"d"


async def test_a_commit_built_on_another_state_is_no_conflict() -> None:
    bench, appender = await started()
    foreign = (GOLDEN / "parted" / "0000000001.0").read_bytes()
    bench.store.put(f"{KEY}/0000000001.0", foreign)
    assert (await append(appender, b"abc")).checkpoint == 2
    assert bench.check() == {2: b"abc"}


async def test_another_writers_commit_is_a_conflict_and_nothing_of_it_is_touched() -> None:
    bench, appender = await started()
    build = await begin(appender, b"ours")
    await append(await bench.open(OTHER_WRITER), b"theirs")
    with pytest.raises(ConflictError, match="key=node/stream"):
        await appender.commit(build, position=4)
    assert bench.check() == {1: b"theirs"}


async def test_another_writers_half_done_commit_is_a_conflict_that_names_it() -> None:
    bench, appender = await started()
    other = await bench.open(OTHER_WRITER)
    fail_once(bench.store, "replace", INODE, after=False)
    theirs = await begin(other, b"theirs")
    with pytest.raises(StoreRetry):
        await other.commit(theirs, position=77)
    with pytest.raises(ConflictError) as caught:
        await append(appender, b"ours")
    assert caught.value.checkpoint == 1
    assert caught.value.trailer is not None
    assert (caught.value.trailer.writer_id, caught.value.trailer.position) == (OTHER_WRITER, 77)
    await other.commit(theirs, position=77)
    assert bench.check() == {1: b"theirs"}


async def test_a_late_write_of_our_own_earlier_life_shows_in_the_conflict_and_at_opening() -> None:
    bench, earlier = await started()
    late = await begin(earlier, b"first")
    fail_once(bench.store, "replace", INODE, after=False)
    appender = await bench.open()
    build = await begin(appender, b"first and second")
    with pytest.raises(StoreRetry):
        await earlier.commit(late, position=5)
    with pytest.raises(ConflictError) as caught:
        await appender.commit(build, position=16)
    assert caught.value.trailer is not None
    assert caught.value.trailer.writer_id == WRITER
    appender = await bench.open()
    assert not bench.clock.slept
    assert appender.latest_trailer is not None
    assert appender.latest_trailer.position == 5
    await append(appender, b" and second")
    assert bench.check() == {1: b"first", 2: b"first and second"}


async def test_a_swap_lost_to_a_writer_without_our_checkpoint_is_a_conflict() -> None:
    bench, appender = await started()
    build = await begin(appender, b"ours")

    def others_swap() -> None:
        # An old writer that looks at no base skips our number and goes on from the old inode.
        inode = bytearray(bench.inode)
        inode[72] = 9
        bench.store.put(f"{KEY}/inode", bytes(inode))

    run_once(bench.store, "replace", INODE, others_swap)
    with pytest.raises(ConflictError):
        await appender.commit(build, position=4)
    assert bench.inode[72] == 9


@pytest.mark.parametrize("again", [True, False])
async def test_a_commit_finished_by_somebody_else_is_ours(again: bool) -> None:
    bench, appender = await started()
    build = await begin(appender, b"ours")
    inode = f"{KEY}/inode"

    def finish() -> None:
        bench.store.put(inode, build.inode_bytes, {"hf-write": "theirs"})
        if again:
            bench.store.put(inode, with_compaction(build.inode_bytes), {"hf-compaction": "v1"})

    run_once(bench.store, "replace", INODE, finish)
    result = await appender.commit(build, position=4)
    assert result.checkpoint == 1
    await append(appender, b" more")
    assert bench.check() == {1: b"ours", 2: b"ours more"}
    assert "hf-compaction" not in bench.store.objects[inode].metadata


async def test_when_others_went_on_from_our_commit_it_stands_and_the_next_conflicts() -> None:
    bench, appender = await started()
    build = await begin(appender, b"ours")
    fail_once(bench.store, "replace", INODE, after=False)
    with pytest.raises(StoreRetry):
        await appender.commit(build, position=4)
    bench.store.now += 6
    other = await bench.open(OTHER_WRITER)
    await append(other, b" theirs")
    await append(other, b" too")
    assert (await appender.commit(build, position=4)).checkpoint == 1
    with pytest.raises(ConflictError, match="open it again"):
        await appender.begin(1)
    assert bench.check()[3] == b"ours theirs too"
    reopened = await bench.open()
    found = await newest_trailer(reopened, WRITER)
    assert found is not None
    assert found.position == 4


async def attach_compaction(bench: Bench) -> None:
    bench.store.put(f"{KEY}/inode", with_compaction(bench.inode), {"hf-compaction": "v1;base=1"})


@pytest.mark.parametrize("operation", ["create", "replace"])
async def test_a_compaction_attached_meanwhile_is_dropped(operation: str) -> None:
    bench, appender = await started()
    await append(appender, b"first")
    build = await begin(appender, b" second")

    def attach() -> None:
        bench.store.put(f"{KEY}/inode", with_compaction(bench.inode), {"hf-compaction": "v1"})

    run_once(bench.store, operation, "", attach)
    await appender.commit(build, position=12)
    assert bench.check() == {1: b"first", 2: b"first second"}
    stored = bench.store.objects[f"{KEY}/inode"]
    assert not stored.body[60] & 8
    assert set(stored.metadata) == {"hf-write"}


async def test_a_compaction_found_at_opening_is_the_base_and_is_dropped() -> None:
    bench, appender = await started()
    await append(appender, b"first")
    plain = appender.fingerprint
    await attach_compaction(bench)
    appender = await bench.open()
    assert appender.fingerprint != plain
    assert appender.fingerprint_without_compaction == plain
    assert appender.latest_trailer is not None
    await append(appender, b" second")
    assert bench.check() == {1: b"first", 2: b"first second"}


async def test_a_compaction_and_a_taken_number_at_once_are_both_got_past() -> None:
    bench, appender = await started()
    await append(appender, b"first")
    await attach_compaction(bench)
    bench.store.put(f"{KEY}/0000000002.0", b"garbage")
    stored = bench.inode
    assert (await append(appender, b" second")).checkpoint == 3
    assert bench.check() == {1: b"first", 3: b"first second"}
    # The base is the inode as it was stored when the number was chosen anew.
    third = bench.store.body(f"{KEY}/0000000003.0")
    assert int.from_bytes(third[16:24], "little") == fingerprint(stored)


async def test_a_write_in_progress_elsewhere_is_to_be_tried_again() -> None:
    # S3 answers 409 while another conditional write of the key is on its way.
    bench, appender = await started()

    def conflict(call: Call) -> None:
        if call.operation in ("create", "replace"):
            raise StoreConflict("in progress")

    build = await begin(appender, b"abc")
    bench.store.before = conflict
    with pytest.raises(StoreRetry, match="in progress"):
        await appender.commit(build, position=3)
    bench.store.before = lambda call: None
    fail_once(bench.store, "replace", INODE, after=False)
    with pytest.raises(StoreRetry):
        await appender.commit(build, position=3)
    bench.store.before = conflict
    with pytest.raises(StoreRetry, match="in progress"):
        await appender.commit(build, position=3)
    bench.store.before = lambda call: None
    await appender.commit(build, position=3)
    assert bench.check() == {1: b"abc"}


async def test_a_container_without_numbers_left_is_named() -> None:
    bench, _ = await started()
    bench.store.put(f"{KEY}/inode", bench.inode[:88] + b"\xfe\xff\xff\x3f" + bench.inode[92:])
    appender = await bench.open()
    build = await begin(appender, b"last")
    bench.store.put(f"{KEY}/1073741823.0", b"garbage")
    with pytest.raises(CheckpointsExhausted):
        await appender.commit(build, position=4)
    with pytest.raises(CheckpointsExhausted, match="another key"):
        await (await bench.open()).begin(1)


async def test_a_container_removed_meanwhile_is_named() -> None:
    bench, appender = await started()
    build = await begin(appender, b"abc")
    del bench.store.objects[f"{KEY}/inode"]
    with pytest.raises(NoSuchContainer):
        await appender.commit(build, position=3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    metadata=st.booleans(),
    block_size=st.sampled_from([4096, 65536]),
)
async def test_whatever_answers_are_lost_each_append_is_stored_once(
    seed: int, metadata: bool, block_size: int
) -> None:
    rng = random.Random(seed)
    bench = Bench(store=MemoryStore(metadata=metadata), block_size=block_size)
    appender = await bench.create()
    bench.store.before = _sometimes(rng, 0.15)
    bench.store.after = _sometimes(rng, 0.15)
    log = b""
    committed = 0
    expected: dict[int, bytes] = {}
    for _ in range(8):
        log += rng.randbytes(rng.choice([1, 100, 4096, 70_000, 300_000]))
        while committed < len(log):
            try:
                build = await begin(appender, log[committed:])
                for _ in range(rng.randrange(1, 4)):
                    try:
                        result = await appender.commit(build, position=len(log))
                    except StoreRetry:
                        continue
                    expected[result.checkpoint] = log
                    committed = len(log)
                    break
                else:
                    raise StoreRetry("given up: opens again, as after a crash")
            except StoreRetry:
                appender = await _reopened(bench)
                trailer = appender.latest_trailer
                if trailer is not None and trailer.position > committed:
                    committed = trailer.position
                    expected[appender.checkpoint] = log[:committed]
    bench.store.before = bench.store.after = lambda call: None
    assert bench.check() == expected, f"seed={seed}"
    assert not bench.clock.slept, "our own commits are finished at once"


def _sometimes(rng: random.Random, share: float) -> Callable[[Call], None]:
    def hook(call: Call) -> None:
        if rng.random() < share:
            raise StoreRetry(f"injected operation={call.operation}")

    return hook


async def _reopened(bench: Bench) -> Appender:
    while True:
        try:
            return await bench.open()
        except StoreRetry:
            continue
