"""A file of 100 GiB with a million mapped blocks: what opening and reading it costs."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import FileOptions, HyperFile
from support.sparse_container import BLOCK, CountedStore, PieceStore, put_sparse_container

KEY = "sparse"
BLOCKS = 1_000_000
SIZE = 100 << 30
SIZE_OF_BLOCK = len(BLOCK)
MIB = 1 << 20


class Sparse:
    """The container, and what was read of it."""

    def __init__(self, store: CountedStore, indexes: list[int]) -> None:
        self.store = store
        self.indexes = indexes

    async def open(self, options: FileOptions | None = None) -> HyperFile:
        self.store.clear()
        return await HyperFile.open(
            self.store,
            KEY,
            clock=SystemClock(),
            rng=random.Random(1),
            options=options or FileOptions(),
        )


async def walk(file: HyperFile, end: int) -> int:
    """Look at every leaf of the map up to that block; how many entries they have."""
    block_map = file._content.map
    assert block_map is not None
    at = entries = 0
    while at < end:
        leaf = await block_map.leaf(at)
        entries += len(leaf.keys)
        at = leaf.end
    return entries


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sparse() -> AsyncIterator[Sparse]:
    store = CountedStore(PieceStore())
    indexes = await put_sparse_container(
        store, KEY, blocks=BLOCKS, size=SIZE, seed=5, part_bytes=256 * MIB
    )
    yield Sparse(store, indexes)


@pytest.mark.asyncio(loop_scope="module")
async def test_opening_takes_a_handful_of_requests_and_little_memory(
    sparse: Sparse, capsys: pytest.CaptureFixture[str]
) -> None:
    tracemalloc.start()
    try:
        file = await sparse.open()
        opened, opening = sparse.store.requests, tracemalloc.get_traced_memory()[1]
        index = sparse.indexes[BLOCKS // 2]
        assert await file.pread(index * SIZE_OF_BLOCK, SIZE_OF_BLOCK) == BLOCK
        reading, first = tracemalloc.get_traced_memory()[1], sparse.store.requests - opened
    finally:
        tracemalloc.stop()
    await file.close()
    with capsys.disabled():
        print(
            f"\n100 GiB, a million blocks: {opened} requests and {opening / MIB:.1f} MiB to open, "
            f"{first} requests and {reading / MIB:.1f} MiB for the first block",
            end="",
        )
    assert file.size == SIZE
    assert opened <= 6
    # Two levels of the map, header and checksums of the block's object, the block.
    assert first <= 6
    assert opening < 2 * MIB
    assert reading < 8 * MIB


@pytest.mark.asyncio(loop_scope="module")
async def test_with_a_warm_map_4_kib_anywhere_cost_one_get_of_a_block(sparse: Sparse) -> None:
    file = await sparse.open()
    assert await walk(file, SIZE // SIZE_OF_BLOCK) == BLOCKS
    chosen = random.Random(6).sample(sparse.indexes, 1000)
    for index in chosen:
        assert await file.pread(index * SIZE_OF_BLOCK, SIZE_OF_BLOCK) == BLOCK
    sparse.store.clear()
    for index in chosen:
        assert await file.pread(index * SIZE_OF_BLOCK, SIZE_OF_BLOCK) == BLOCK
    assert sparse.store.requests == len(chosen)
    assert {end - start for _, start, end in sparse.store.gets if start and end} == {SIZE_OF_BLOCK}
    # Holes cost nothing at all.
    sparse.store.clear()
    mapped = set(sparse.indexes)
    holes = [i for i in (index + 1 for index in chosen) if i not in mapped]
    for index in holes:
        assert await file.pread(index * SIZE_OF_BLOCK, SIZE_OF_BLOCK) == bytes(SIZE_OF_BLOCK)
    assert sparse.store.requests == 0
    await file.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_the_map_comes_in_few_requests_and_what_is_kept_of_it_is_bounded(
    sparse: Sparse,
) -> None:
    options = FileOptions(cache_bytes=4 * MIB)
    file = await sparse.open(options)
    sources = file._content.sources
    tracemalloc.start()
    try:
        assert await walk(file, sparse.indexes[BLOCKS // 4]) >= BLOCKS // 4
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # A quarter of 3,922 leaves or more, 256 of them in each request.
    assert sparse.store.requests < 20
    assert sources.objects.cached_bytes + sources.nodes.cached_bytes <= 4 * MIB
    assert held < 6 * MIB
    await file.close()
