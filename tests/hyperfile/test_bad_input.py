"""Containers with bad fields, pointers, maps and lengths: an error of one family, or content."""

from __future__ import annotations

import asyncio
import os
import random
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.hyperfile import FileOptions, FormatError, HyperfileError, Reader
from hf_agent.hyperfile.verify import verify_container
from support.broken_rules import container, name, nodes, patch
from support.damage import flip, without_checksums
from support.faces import Memory, look, use_file, verify
from support.files import KEY, FileBench
from support.golden import MANIFEST, golden_store
from support.memory_store import MemoryStore
from support.mutations import mutate

EXAMPLES = int(os.environ.get("HF_AGENT_FUZZ_EXAMPLES", "12"))
"""Mutated containers for each golden one; thousands of them on demand, by the variable."""
SECONDS = 30
"""For one container and all that is done to it: no work may be endless."""
CONTAINERS = ["flat", "micro-group", "parted", "stream", "legacy-02"]

INODE_FIELDS = [
    *((at, 8) for at in (0, 8, 16, 24)),
    *((at, 4) for at in (32, 36, 40, 44, 48, 52, 56, 60)),
    *((at, 1) for at in (44, 45, 46, 47)),
    *((at, 8) for at in (64, 72, 80, 88, 96)),
    *((104, 1), (105, 1), (106, 2), (108, 4), (112, 8), (120, 8), (136, 8), (152, 8)),
]
"""Offset and width of every field, those of the root of the map last."""
SEGMENT_FIELDS = [
    *((0, 4), (4, 4), (8, 4), (12, 2), (14, 1), (15, 1), (16, 8)),
    *((184, 8), (192, 8), (200, 4), (204, 4), (208, 8), (216, 8)),
    *((24 + at, width) for at, width in INODE_FIELDS),
]
"""With the first entry, and the inode."""
STREAM_FIELDS = [
    *((0, 4), (4, 2), (6, 2), (8, 8), (16, 2), (18, 1), (19, 1), (20, 4), (24, 4), (32, 8)),
    (252, 4),
    *((40 + at, width) for at, width in INODE_FIELDS),
]
"""From the beginning of the header, which is the end of the object."""
NODE_FIELDS = [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (16, 8), (2048, 8), (2056, 8)]
"""With two keys and two pointers, for nodes of 4096 bytes."""


def values(width: int) -> list[int]:
    top = 1 << 8 * width
    return [0, 1, top // 2, top - 1]


def put(store: MemoryStore, key: str, at: int, width: int, value: int) -> bool:
    """Write a field; the checksum of a stream header is made to fit. Whether that is a change."""
    body = bytearray(store.body(key))
    if at + width > len(body):
        return False
    new = value.to_bytes(width, "little")
    if body[at : at + width] == new:
        return False
    body[at : at + width] = new
    if body[-256:-252] == b"HFST" and not len(body) - 4 <= at:
        body[-4:] = struct.pack("<I", zlib.crc32(body[-256:-4]))
    store.put(key, bytes(body))
    return True


async def use(store: MemoryStore, key: str) -> None:
    async with asyncio.timeout(SECONDS):
        await look(store, key)
        await verify(store, key)
        await use_file(store, key)


def newest_object(store: MemoryStore, key: str) -> str:
    number = MANIFEST[key]["last_cno"]
    return next(each for each in (f"{key}/{number:010d}", f"{key}/{number:010d}.0")
                if each in store.objects)  # fmt: skip


@pytest.mark.parametrize("key", CONTAINERS)
async def test_every_field_of_an_inode_out_of_range(key: str) -> None:
    for at, width in INODE_FIELDS:
        for value in values(width):
            store = golden_store(key)
            if put(store, f"{key}/inode", at, width, value):
                await use(store, key)


@pytest.mark.parametrize("key", CONTAINERS)
async def test_every_field_of_a_header_out_of_range(key: str) -> None:
    stream = key == "stream"
    for at, width in STREAM_FIELDS if stream else SEGMENT_FIELDS:
        for value in values(width)[:: 1 if at < 24 else 3]:
            store = golden_store(key)
            target = newest_object(store, key)
            base = len(store.body(target)) - 256 if stream else 0
            if put(store, target, base + at, width, value):
                await use(store, key)


@pytest.mark.parametrize("pointer_format", [1, 2, 3, 4])
async def test_every_field_of_a_node_out_of_range(pointer_format: int) -> None:
    whole = await a_map_of_two_levels(pointer_format)
    target = next(each for each in sorted(whole.objects) if each.startswith(f"{KEY}/0"))
    body = whole.body(target)
    at = map_of(body)
    for node in (at, at + 4096):
        for field, width in NODE_FIELDS:
            for value in values(width):
                store = copy_of(whole)
                if put(store, target, node + field, width, value):
                    await use(store, KEY)


async def a_map_of_two_levels(pointer_format: int) -> MemoryStore:
    """One checkpoint of 300 blocks, without the checksums that would find everything at once."""
    bench = FileBench(options=FileOptions(block_size=4096, pointer_format=pointer_format))
    async with await bench.open("x") as file:
        await file.append(random.Random(5).randbytes(300 * 4096 + 100))
    for key, each in bench.store.objects.items():
        if pointer_format != 4 and not key.endswith("inode"):
            bench.store.objects[key] = replace(each, body=without_checksums(each.body))
    return bench.store


def copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    copied.objects = {key: replace(each) for key, each in store.objects.items()}
    return copied


def map_of(body: bytes) -> int:
    """Where the map nodes of an object begin."""
    if body[-256:-252] == b"HFST":
        return int(struct.unpack_from("<I", body, len(body) - 256 + 20)[0]) << 12
    return -(-int(struct.unpack_from("<I", body, 8)[0]) // 4096) * 4096


# -- pointers and maps ----------------------------------------------------------------------------


async def all_errors(store: MemoryStore) -> list[HyperfileError]:
    async with asyncio.timeout(SECONDS):
        errors = await look(store, KEY)
        assert not await verify(store, KEY)
        await use_file(store, KEY)
    assert errors
    assert all(isinstance(error, FormatError) for error in errors), errors
    return errors


async def plain() -> MemoryStore:
    """A container with a map of three levels and parts, without checksums."""
    store = await container()
    for key, each in store.objects.items():
        if not key.endswith("inode"):
            store.objects[key] = replace(each, body=without_checksums(each.body))
    return store


def node_pointer(at: int) -> int:
    return 1 << 62 | 2 << 32 | at // 4096 << 14


@pytest.mark.parametrize("target", ["itself", "its sibling", "its leaf"])
async def test_a_cycle_in_the_map_is_an_error_that_names_the_node(target: str) -> None:
    """Levels descend by one, so that a node below itself, or beside itself, is no child of it."""
    store = await plain()
    inner, leaf = nodes(store)[2][0], nodes(store)[1][0]
    if target == "its leaf":  # a leaf that holds a map node as if it were data
        patch(store, name(2), leaf + 8 + 8 * 255, "Q", node_pointer(inner))
    else:
        child = inner if target == "itself" else leaf
        patch(store, name(2), inner + 8 + 8 * (255 + (target != "itself")), "Q",
              node_pointer(child))  # fmt: skip
    found = await all_errors(store)
    assert any(getattr(error, "object", "") == name(2) for error in found)


async def test_keys_out_of_order_are_an_error() -> None:
    store = await plain()
    leaf = nodes(store)[1][0]
    patch(store, name(2), leaf + 16, "Q", 0)
    assert any("do not ascend" in str(error) for error in await all_errors(store))


async def test_a_count_past_the_capacity_is_an_error() -> None:
    store = await plain()
    patch(store, name(2), nodes(store)[1][0] + 2, "H", 256)
    assert any("cannot have 256 children" in str(error) for error in await all_errors(store))


@pytest.mark.parametrize("length", [None, 0, 150, 208, 50_000], ids=lambda length: f"{length}")
async def test_a_pointer_to_a_missing_or_short_object_is_an_error(length: int | None) -> None:
    store = await plain()
    part = store.body(name(2, 1))
    (block,) = struct.unpack_from("<Q", part, 208 + 16 * 20)
    if length is None:
        del store.objects[name(2, 1)]
    else:
        store.put(name(2, 1), part[:length])
    reader = await Reader.open(store, KEY)
    file = await FileBench(store=store).open("r+")
    for read in (reader.read, file.pread):
        with pytest.raises(FormatError) as caught:
            await read(block * 4096, 10)
        assert caught.value.object == name(2, 1)
        assert f"object={name(2, 1)} offset={caught.value.offset}" in str(caught.value)
    await file.pwrite(block * 4096 + 5, b"x")
    with pytest.raises(FormatError):
        await file.flush()
    await file.abort()
    assert not await verify(store, KEY)
    errors = (await verify_container(store, KEY)).errors
    assert {each.object for each in errors} == {name(2, 1)}


@pytest.mark.parametrize("key", CONTAINERS)
async def test_an_object_that_was_cut_anywhere_is_an_error_or_reads_right(key: str) -> None:
    rng = random.Random(key)
    content = await (await Reader.open(golden_store(key), key)).read(0, 1 << 30)
    for target in sorted(golden_store(key).objects):
        size = len(golden_store(key).body(target))
        cuts = {0, 1, 100, 159, 207, 208, 4095, 4096, 8192, size - 1, size - 256, size - 255}
        for cut in sorted({min(max(each, 0), size - 1) for each in (*cuts, rng.randrange(size))}):
            store = golden_store(key)
            store.put(target, store.body(target)[:cut])
            right = False
            try:
                data = await (await Reader.open(store, key)).read(0, 1 << 30)
            except HyperfileError:
                pass
            else:
                assert data == content, (target, cut)
                right = True
            report = await verify_container(store, key)
            # What only an older version was may be anybody's, without its header: a note.
            named = [*report.errors, *(report.notes if right else ())]
            assert target in {finding.object for finding in named}, (target, cut)
            await use(store, key)


# -- flipped bits and worse ---------------------------------------------------------------------


@pytest.mark.parametrize("key", MANIFEST)
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_any_damage_to_a_golden_container(key: str, seed: int) -> None:
    rng = random.Random(seed)
    store = golden_store(key)
    damage = [mutate(store, rng) for _ in range(rng.randrange(1, 4))]
    print(f"seed={seed} {damage}")
    with Memory():
        await use(store, key)


@pytest.mark.parametrize("pointer_format", [1, 2, 3])
@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(seed=st.integers(0, 1 << 62))
async def test_a_file_never_reads_or_carries_on_wrong_bytes(pointer_format: int, seed: int) -> None:
    """Where there are checksums: what is written on a damaged container is right, or an error."""
    rng = random.Random(seed)
    bench, content = await versions(pointer_format)
    key = rng.choice(sorted(bench.store.objects))
    bit = rng.randrange(8 * len(bench.store.body(key)))
    if rng.random() < 0.3:
        bit %= 8 * 5000
    print(f"seed={seed} {key=} {bit=}")
    flip(bench.store, key, bit)
    try:
        file = await bench.open("r+")
    except HyperfileError:
        return
    expected = bytearray(content)
    try:
        for _ in range(4):
            at, data = rng.randrange(len(content)), rng.randbytes(rng.choice([1, 5000, 20_000]))
            await file.pwrite(at, data)
            expected[at : at + len(data)] = data
            start = rng.randrange(len(expected))
            assert await file.pread(start, 10_000) == expected[start : start + 10_000]
        await file.flush()
    except HyperfileError:
        await file.abort()
        return
    if key != f"{KEY}/inode":
        flip(bench.store, key, bit)
    assert await bench.content() == expected
    await bench.check()


_versions: dict[int, tuple[FileBench, bytes]] = {}


async def versions(pointer_format: int) -> tuple[FileBench, bytes]:
    """A copy of a container with three checkpoints whose blocks are mixed, and its content."""
    if pointer_format not in _versions:
        bench = FileBench(
            options=FileOptions(
                block_size=4096,
                pointer_format=pointer_format,
                part_bytes=100_000 if pointer_format == 3 else 1 << 30,
            )
        )
        rng, content = random.Random(7), bytearray()
        async with await bench.open("x") as file:
            for size in (300_000, 60_000, 9000):
                at = min(rng.randrange(200_000), len(content))
                data = rng.randbytes(size)
                await file.pwrite(at, data)
                content[at : at + size] = data
                await file.flush()
        _versions[pointer_format] = bench, bytes(content)
    built, content_bytes = _versions[pointer_format]
    return FileBench(
        store=copy_of(built.store), options=built.options, created=built.created
    ), content_bytes


async def test_the_memory_for_a_verification_does_not_follow_a_damaged_count() -> None:
    store = golden_store("parted")
    target = newest_object(store, "parted")
    for at in (200, 204):
        patch(store, target, at, "I", 0xFFFF_FFFF)
        with Memory():
            assert not (await verify_container(store, "parted")).sound
            await verify(store, "parted")
