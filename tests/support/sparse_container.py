"""A container of a million blocks that lie anywhere in a huge file, made fast and in little memory.

Its blocks are all the same bytes, so that they cost nothing to keep; its map, headers, checksums
and layout are what any flush makes of such a file. `PieceStore` keeps objects as the pieces that
they were given as, so that a GiB of one block repeated takes up one block.
"""

from __future__ import annotations

import gc
import random
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate
from typing import Any

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import FileOptions, HyperFile
from hf_agent.hyperfile.file.dirty import DirtyBlock
from hf_agent.store.base import Body, ObjectData, ObjectInfo, Store
from hf_agent.store.buffers import body_views
from support.memory_store import MemoryStore

__all__ = ["BLOCK", "CountedStore", "PieceStore", "put_sparse_container"]

BLOCK = random.Random(4096).randbytes(4096)
"""What every block of the container holds."""
_LARGE_BYTES = 1 << 20


async def put_sparse_container(
    store: Store, key: str, *, blocks: int, size: int, seed: int, part_bytes: int = 1 << 30
) -> list[int]:
    """Create it, in one checkpoint; returns the indexes of the blocks of 4 KiB, ascending."""
    rng = random.Random(seed)
    indexes = sorted(rng.sample(range(size // len(BLOCK)), blocks))
    options = FileOptions(block_size=len(BLOCK), part_bytes=part_bytes)
    file = await HyperFile.open(store, key, "x", clock=SystemClock(), rng=rng, options=options)
    await file.truncate(size)
    publisher = file._publisher
    assert publisher is not None
    # By the front door they would be copied, and written ahead in parts of another size.
    publisher.dirty.blocks.update((index, DirtyBlock(BLOCK, None)) for index in indexes)
    gc.disable()  # it would look at a million blocks again and again
    try:
        await file.close()
    finally:
        gc.enable()
    return indexes


class PieceStore(MemoryStore):
    """Keeps large bodies as the pieces that they were given in."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: dict[str, tuple[list[memoryview], list[int]]] = {}

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        pieces = body_views(body)
        starts = list(accumulate(map(len, pieces), initial=0))
        if starts[-1] < _LARGE_BYTES:
            return await super().create(key, body, metadata=metadata)
        etag = await super().create(key, b"", metadata=metadata)
        self._pieces[key] = pieces, starts
        return etag

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        answer = await super().get(key, start=start, end=end, suffix=suffix, if_match=if_match)
        if key not in self._pieces:
            return answer
        pieces, starts = self._pieces[key]
        size = starts[-1]
        first = max(size - suffix, 0) if suffix is not None else min(start or 0, size)
        last = max(size if end is None else min(end, size), first)
        at = max(bisect_right(starts, first) - 1, 0)
        found = []
        for piece, begin in zip(pieces[at:], starts[at:], strict=False):
            if begin >= last:
                break
            found.append(piece[max(first - begin, 0) : last - begin])
        return ObjectData(replace(answer.info, size=size), b"".join(found), first)

    async def head(self, key: str) -> ObjectInfo:
        info = await super().head(key)
        return info if key not in self._pieces else replace(info, size=self._pieces[key][1][-1])


class CountedStore:
    """Satisfies `Store`; goes on to another store, and counts what is read of it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.gets: list[tuple[str, int | None, int | None]] = []
        """Key and range of every `get`."""
        self.heads = 0
        self.in_flight = 0
        self.most_in_flight = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @property
    def requests(self) -> int:
        """Reads since the counts were last cleared."""
        return len(self.gets) + self.heads

    def clear(self) -> None:
        """Count from 0 again."""
        self.gets.clear()
        self.heads = self.most_in_flight = 0

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        """See `Store.get`."""
        self.gets.append((key, start, end))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._store.get(
                key, start=start, end=end, suffix=suffix, if_match=if_match
            )
        finally:
            self.in_flight -= 1

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        self.heads += 1
        return await self._store.head(key)
