"""A flipped bit, anywhere in a container that this package wrote, is found and named, and is
neither read as content nor carried into the next checkpoint."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import HyperfileError, Reader, checkpoint_at
from hf_agent.hyperfile.verify import Finding, VerifyReport, verify_container
from support.appending import KEY, Bench, append
from support.damage import flip
from support.memory_store import MemoryStore

INODE = f"{KEY}/inode"
BLOCK = 4096


@dataclass
class Written:
    """A container with a map of two levels, some of its nodes and blocks superseded."""

    bench: Bench
    versions: dict[int, bytes]
    """Content at each checkpoint."""

    @property
    def content(self) -> bytes:
        return self.versions[max(self.versions)]


async def written(*sizes: int, seed: int = 1) -> Written:
    bench = Bench()
    appender = await bench.create()
    versions = {0: b""}
    for number, size in enumerate(sizes, start=1):
        data = random.Random(seed * 1000 + number).randbytes(size)
        versions[number] = versions[number - 1] + data
        bench.clock.now += 10
        await append(appender, data)
    return Written(bench, versions)


def region(store: MemoryStore, key: str, byte: int) -> tuple[str, int]:
    """What a byte of an object belongs to, and where that begins; by the format's tables alone."""
    if key == INODE:
        return "inode", 0
    body = store.body(key)
    s_bytes, metas, datas = struct.unpack_from("<I188xII", body, 8)
    meta_at = -(-s_bytes // 4096) * 4096
    data_at = meta_at + 4096 * metas
    if byte < 208:
        return "header", 0
    if byte < meta_at:
        return "entries", 208
    if byte < data_at:
        number = (byte - meta_at) // 4096
        return f"map node {number}", meta_at + 4096 * number
    if byte < data_at + BLOCK * datas:
        number = (byte - data_at) // BLOCK
        return f"data block {number}", data_at + BLOCK * number
    return "trailer", data_at + BLOCK * datas


async def read_all(
    store: MemoryStore, content: bytes, checkpoint: int | None, *, pieces: int = 40
) -> list[range]:
    """Read it in pieces; what is given out is right. Returns the ranges that raised."""
    step, refused = max(len(content) // pieces, 1), []
    for start in range(0, max(len(content), 1), step):
        try:
            reader = await Reader.open(store, KEY, checkpoint=checkpoint)
            data = await reader.read(start, step)
        except HyperfileError:
            refused.append(range(start, min(start + step, len(content))))
        else:
            assert data == content[start : start + step], f"wrong bytes at {start}"
            assert reader.size == len(content)
    return refused


def overlaps(ranges: list[range], start: int, end: int) -> bool:
    return any(each.start < end and start < each.stop for each in ranges)


def named(report: VerifyReport, key: str) -> list[Finding]:
    return [finding for finding in report.errors if finding.object == key]


async def check_flip(container: Written, key: str, bit: int, *, pieces: int = 40) -> None:
    """Flip a bit; it is found, named and not read. The container is whole again afterwards."""
    store = container.bench.store
    what, offset = region(store, key, bit // 8)
    flip(store, key, bit)
    try:
        report = await verify_container(store, KEY)
        findings = named(report, key)
        assert findings, f"not found: {what} of {key}, {report.errors}"
        assert what in {finding.what for finding in findings}, findings
        if what not in ("inode", "header", "trailer"):
            assert [finding.offset for finding in findings] == [offset], findings
            assert report.error_count == 1, report.errors
        refused = await read_all(store, container.content, None, pieces=pieces)
        for finding in findings:
            if finding.affected is not None and finding.affected.checkpoint is None:
                for start, end in finding.affected.ranges:
                    assert overlaps(refused, start, end)
        if refused:
            assert any(finding.affected is not None for finding in findings), (bit, findings)
    finally:
        flip(store, key, bit)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_any_flipped_bit_is_found_named_and_not_read(seed: int) -> None:
    rng = random.Random(seed)
    container = await written(3000, 50_000, 1_150_000, 10, 4096)
    store = container.bench.store
    key = rng.choice(sorted(store.objects))
    bits = 8 * len(store.body(key))
    # Half of them where the structure is.
    bit = rng.randrange(min(bits, 8 * 20_000)) if rng.random() < 0.5 else rng.randrange(bits)
    print(f"seed={seed} {key=} {bit=}")
    await check_flip(container, key, bit)


async def test_every_bit_of_the_inode_counts() -> None:
    container = await written(3000, 30_000)
    for bit in range(8 * 160):
        await check_flip(container, INODE, bit, pieces=2)


async def test_every_bit_of_a_header_and_of_a_trailer_counts() -> None:
    container = await written(3000, 30_000)
    store, key = container.bench.store, f"{KEY}/0000000002.0"
    size = len(store.body(key))
    trailer = next(byte for byte in range(size) if region(store, key, byte)[0] == "trailer")
    for byte in (*range(208), *range(trailer, size)):
        for bit in range(8):
            await check_flip(container, key, 8 * byte + bit, pieces=2)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_no_version_is_read_wrong(seed: int) -> None:
    rng = random.Random(seed)
    container = await written(3000, 50_000, 10, 4096, 20_000)
    store = container.bench.store
    key = rng.choice(sorted(store.objects))
    bit = rng.randrange(8 * len(store.body(key)))
    print(f"seed={seed} {key=} {bit=}")
    flip(store, key, bit)
    for number in (1, 2, 3, 4, 5):
        await read_all(store, container.versions[number], number)
    moment = container.bench.clock.now - 15
    try:
        found = await checkpoint_at(store, KEY, moment)
    except HyperfileError:
        return
    assert found is not None
    assert found.number == 3


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_damage_is_not_carried_into_the_next_checkpoint(seed: int) -> None:
    rng = random.Random(seed)
    container = await written(3000, 50_000, 5000)
    bench, store = container.bench, container.bench.store
    key = rng.choice([INODE, *sorted(store.objects)])
    bit = rng.randrange(8 * len(store.body(key)))
    if key.endswith("3.0") and rng.random() < 0.5:
        # The last block is what an append takes up.
        at = store.body(key).rindex(container.content[-100:])
        bit = 8 * (at - rng.randrange(700))
    print(f"seed={seed} {key=} {bit=}")
    flip(store, key, bit)
    try:
        await append(await bench.open(), b"and more")
    except HyperfileError:
        return
    if key == INODE:
        # The bit of an attached compaction has no copy. A commit clears it, and so did this one.
        assert bit == 8 * 60 + 3, "an append was built on a damaged inode"
    else:
        flip(store, key, bit)
    assert await bench.content() == container.content + b"and more"
    bench.check()


async def test_the_inode_of_an_empty_container_is_checked_as_far_as_it_describes_content() -> None:
    """Nothing else holds a copy of it: number, times, owner, mode, flags, links, and the block
    sizes that the first checkpoint will have."""
    container = await written()
    store = container.bench.store
    unchecked = [*range(44), 45, 46, *range(48, 72)]
    for byte in range(160):
        for bit in range(8):
            flip(store, INODE, 8 * byte + bit)
            report = await verify_container(store, KEY)
            if byte not in unchecked:
                assert named(report, INODE), (byte, bit)
            try:
                reader = await Reader.open(store, KEY)
                assert await reader.read(0, 1 << 20) == b"", (byte, bit)
            except HyperfileError:
                assert named(report, INODE), (byte, bit)
            flip(store, INODE, 8 * byte + bit)


async def test_the_version_of_a_moment_is_the_right_one_or_an_error() -> None:
    container = await written(10, 10, 10, 10, 10)
    bench = container.bench
    first = bench.clock.now - 40
    refused = 0
    for damaged in (1, 2, 3, 4, 5):
        key = f"{KEY}/{damaged:010d}.0"
        flip(bench.store, key, 8 * 30)
        for number in (1, 2, 3, 4, 5):
            try:
                found = await checkpoint_at(bench.store, KEY, first + 10 * (number - 1) + 5)
            except HyperfileError:
                refused += 1
            else:
                assert found is not None
                assert found.number == number, f"{damaged=}"
        flip(bench.store, key, 8 * 30)
    assert refused
