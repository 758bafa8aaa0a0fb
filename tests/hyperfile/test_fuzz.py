"""Damaged containers: an error of the package's own family, or content; never anything else."""

from __future__ import annotations

import asyncio
import random
import struct
import zlib

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


def mutate(store: MemoryStore, rng: random.Random) -> str:
    """Damage one object, where it hurts; says how."""
    key = rng.choice(sorted(store.objects))
    body = bytearray(store.body(key))
    kind = rng.choice(["flip", "flip", "word", "word", "cut", "swap", "drop", "node", "grow"])
    structural = [at for at in (0, len(body) - 256) if at >= 0]
    at = rng.choice(structural) + rng.randrange(256) if rng.random() < 0.7 and body else 0
    at = min(at, max(len(body) - 8, 0))
    if kind == "flip" and body:
        body[at] ^= 1 << rng.randrange(8)
    elif kind == "word" and len(body) >= 8:
        width = rng.choice([1, 2, 4, 8])
        value = rng.choice([0, 1, 255, 1 << 31, (1 << 64) - 1, rng.getrandbits(64)])
        body[at : at + width] = value.to_bytes(8, "little")[:width]
    elif kind == "cut":
        del body[rng.randrange(len(body) + 1) :]
    elif kind == "grow":
        body += rng.randbytes(rng.choice([1, 64, 5000]))
    elif kind == "swap":
        body = bytearray(store.body(rng.choice(sorted(store.objects))))
    elif kind == "node" and len(body) > 8192:
        # A word of what may be a map node, or a pointer to another place.
        at = rng.randrange(len(body) // 4096) * 4096 + rng.choice([0, 8, 16, 2048, 2056, 2064])
        place = 1 << 62 | rng.randrange(9) << 32 | rng.randrange(64) << 14 | rng.randrange(3)
        if at + 8 <= len(body):
            body[at : at + 8] = struct.pack("<Q", place)
    elif kind == "drop":
        del store.objects[key]
        return f"{key} {kind}"
    if body[-256:-252] == b"HFST" and rng.random() < 0.7:
        body[-4:] = struct.pack("<I", zlib.crc32(body[-256:-4]))
    store.put(key, bytes(body))
    return f"{key} {kind} at {at}"


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
