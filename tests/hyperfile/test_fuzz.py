"""Damaged containers: an error of the package's own family, or content; never anything else."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import HyperfileError, list_checkpoints, stat_container
from hf_agent.hyperfile.appender import Appender
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import StoreRetry
from support.appending import KEY, WRITER, Bench, append
from support.golden import golden_store
from support.memory_store import MemoryStore
from support.mutations import mutate

NAMES = [
    "flat",
    "micro-group",
    "parted-direct-root",
    "parted-parts",
    "parted-partials",
    "stream-parts",
    "orphan-commit",
    "compaction-attached",
    "legacy-02",
]
MOST_READ = 2_000_000
"""A damaged size may claim anything; holes are endless."""


async def use_everything(store: MemoryStore, key: str) -> None:
    for checkpoint in (None, 1, 2, 4):
        try:
            reader = await Reader.open(store, key, checkpoint=checkpoint)
            size = min(reader.size, MOST_READ)
            data = await reader.read(0, size)
            assert len(data) == size
            await reader.read(max(reader.size - 5000, 0), 10_000)
        except HyperfileError as error:
            assert str(error)
    try:
        await stat_container(store, key)
        async for _ in list_checkpoints(store, key):
            pass
    except HyperfileError as error:
        assert str(error)
    bench = Bench(store=store)
    try:
        appender = await Appender.open(
            store, key, clock=bench.clock, rng=bench.rng, writer_id=WRITER
        )
        await append(appender, b"x" * 9000, position=0)
    except HyperfileError as error:
        assert str(error)
    except StoreRetry as error:
        assert "other writers" in str(error)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_a_damaged_container_is_an_error_of_the_family_or_content(
    name: str, seed: int
) -> None:
    rng = random.Random(seed)
    store = golden_store(name)
    damage = [mutate(store, rng) for _ in range(rng.randrange(1, 4))]
    print(f"seed={seed} {damage}")
    async with asyncio.timeout(20):
        await use_everything(store, name)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_a_damaged_container_of_our_own_never_reads_wrong(seed: int) -> None:
    rng = random.Random(seed)
    bench = Bench()
    appender = await bench.create()
    content = b""
    for size in (3000, 50_000, 1_200_000):
        content += rng.randbytes(size)
        await append(appender, content[-size:])
    damage = []
    for number in rng.sample((1, 2, 3), 2):
        key = f"{KEY}/{number:010d}.0"
        body = bytearray(bench.store.body(key))
        at = rng.randrange(len(body))
        body[at] ^= 1 << rng.randrange(8)
        bench.store.put(key, bytes(body))
        damage.append((key, at))
    print(f"seed={seed} {damage}")
    blocks = len(content) // 4096
    for block in (0, rng.randrange(blocks), rng.randrange(blocks), blocks - 1):
        try:
            reader = await Reader.open(bench.store, KEY)
            data = await reader.read(block * 4096, 4096)
        except HyperfileError:
            continue
        assert data == content[block * 4096 : (block + 1) * 4096]
    await use_everything(bench.store, KEY)
