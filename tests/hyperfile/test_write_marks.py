"""Every conditional write of a container carries a mark of its own, and every resend the same."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile.appender import Appender
from hf_agent.store.base import StoreRetry
from support.memory_store import Call, MemoryStore

WRITER, OTHER = bytes(16), bytes(15) + b"o"


async def test_every_write_is_marked_and_a_resend_has_the_mark_of_the_first() -> None:
    store = MemoryStore()
    clock, rng = SystemClock(), random.Random(1)
    lost: set[str] = set()

    def lose_each_answer_once(call: Call) -> None:
        mark = call.metadata.get("hf-write", "")
        if call.operation in ("create", "replace") and mark not in lost:
            lost.add(mark)
            raise StoreRetry("the answer was lost")

    store.after = lose_each_answer_once
    inode = Appender.prepare_inode(1.0, 4096)
    named = {"clock": clock, "rng": rng, "writer_id": WRITER}
    for _ in range(2):
        try:
            appender = await Appender.create(store, "c", inode, mark="made", **named)  # type: ignore[arg-type]
        except StoreRetry:
            continue
    for number in range(1, 4):
        build = await appender.begin(5000)
        for _ in range(3):
            try:
                await appender.commit(build, position=number)
            except StoreRetry:
                continue
            break
    # A commit that another writer left half done is finished by a write, too.
    build = await appender.begin(10)

    def die_before_the_swap(call: Call) -> None:
        if call.operation == "replace":
            raise StoreRetry("the writer dies")

    store.before = die_before_the_swap
    for _ in range(2):
        with pytest.raises(StoreRetry):
            await appender.commit(build, position=4)
    store.before = lambda call: None
    store.now += 100
    for _ in range(2):
        try:
            await Appender.open(store, "c", clock=clock, rng=rng, writer_id=OTHER)
        except StoreRetry:
            continue

    writes = [call for call in store.calls if call.operation in ("create", "replace")]
    bodies: defaultdict[str, set[tuple[str, bytes]]] = defaultdict(set)
    for call in writes:
        assert set(call.metadata) == {"hf-write"}
        bodies[call.metadata["hf-write"]].add((call.key, call.body))
    assert all(len(same) == 1 for same in bodies.values())
    assert len(bodies) >= 1 + 3 * 2 + 2
    assert len(writes) > len(bodies)
