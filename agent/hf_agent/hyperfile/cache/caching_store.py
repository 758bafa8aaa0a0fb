"""A store that keeps chunks of what was read of objects that never change."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from weakref import WeakValueDictionary

from hf_agent.hyperfile.cache.chunk_cache import ChunkCache
from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.keys import INODE_SUFFIX
from hf_agent.store.base import Body, ObjectData, ObjectInfo, Store

__all__ = ["CHUNK_BYTES", "CachingStore"]

CHUNK_BYTES = 64 << 10
"""Objects are cut into chunks of this size, the last one shorter."""
_MAX_OBJECTS = 10_000
"""Objects of which the etag is remembered."""
_CONCURRENCY = 16
_SCAN_BYTES = 1 << 20
"""Ranges from this size on are scans."""


class CachingStore:
    """A `Store` over another one. Ranges of checkpoint objects come from `caches`, in their order.

    An object's first read always goes to the store: it tells the object's etag, which is part of
    the key of its chunks. A read that names no start has the store asked whether that is still the
    etag; whoever opens an object begins with one, and names the etag from then on. So nothing of a
    container that was removed, and created again under its name, is ever taken for the new one.
    Inodes are never cached.
    """

    def __init__(self, store: Store, name: str, caches: Sequence[ChunkCache]) -> None:
        """`name` tells this store from any other that uses the same caches: its URL and server."""
        self._store = store
        self._name = name
        self._caches = list(caches)
        self._known: OrderedDict[str, ObjectInfo] = OrderedDict()
        self._loading: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()
        self.supports_metadata = store.supports_metadata

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
        info = self._known.get(key)
        if info is not None and start is None and end is not None:
            info, start = await self._still(info), 0
        expected = if_match is None or (info is not None and if_match == info.etag)
        if info is None or start is None or end is None or not expected:
            answer = await self._store.get(
                key, start=start, end=end, suffix=suffix, if_match=if_match
            )
            self._remember(answer.info)
            return answer
        self._known.move_to_end(key)
        start, end = min(start, info.size), min(end, info.size)
        if end <= start:
            return ObjectData(info, b"", start)
        is_scan = end - start >= _SCAN_BYTES
        caches = [cache for cache in self._caches if cache.takes_scans or not is_scan]
        if not caches:
            return await self._store.get(key, start=start, end=end, if_match=info.etag)
        return ObjectData(info, await self._cached(caches, info, start, end), start)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._store.head(key)

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`."""
        self._known.pop(key, None)
        return await self._store.create(key, body, metadata=metadata)

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`."""
        self._known.pop(key, None)
        return await self._store.replace(key, body, etag=etag, metadata=metadata)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        self._known.pop(key, None)
        await self._store.delete(key)

    def list(self, prefix: str = "", *, delimiter: str = "") -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`."""
        return self._store.list(prefix, delimiter=delimiter)

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`."""
        return await self._store.abort_left_uploads(prefix, before=before)

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    async def _still(self, info: ObjectInfo) -> ObjectInfo | None:
        """What the store says of an object now, if it is still the one that is known."""
        now = await self._store.head(info.key)
        if now.etag != info.etag:
            return None
        self._remember(now)
        return now

    # -- chunks ------------------------------------------------------------------------------

    async def _cached(
        self, caches: Sequence[ChunkCache], info: ObjectInfo, start: int, end: int
    ) -> bytes:
        """Bytes `[start, end)`; neighbouring chunks that no cache has are read in one request."""
        first, last = start // CHUNK_BYTES, (end - 1) // CHUNK_BYTES
        numbers = list(range(first, last + 1))
        keys = [self._key(info, number) for number in numbers]
        found = dict(
            zip(
                numbers,
                await map_concurrently(partial(_find, caches), keys, limit=_CONCURRENCY),
                strict=True,
            )
        )
        missing = [number for number in numbers if found[number] is None]
        for low, high in _runs(missing):
            found.update(await self._fetch(caches, info, low, high))
        data = b"".join(found[number] or b"" for number in numbers)
        return data[start - first * CHUNK_BYTES : end - first * CHUNK_BYTES]

    async def _fetch(
        self, caches: Sequence[ChunkCache], info: ObjectInfo, low: int, high: int
    ) -> dict[int, bytes | None]:
        """Chunks `low` to `high` from the store, into every one of `caches`."""
        # Readers side by side come for the same chunks: one of them fetches.
        name = self._key(info, low)
        lock = self._loading.setdefault(name, asyncio.Lock())
        async with lock:
            again = await _find(caches, name)
            if again is not None and low == high:
                return {low: again}
            answer = await self._store.get(
                info.key, start=low * CHUNK_BYTES, end=(high + 1) * CHUNK_BYTES, if_match=info.etag
            )
            chunks: dict[int, bytes | None] = {}
            for number in range(low, high + 1):
                at = (number - low) * CHUNK_BYTES
                chunk = answer.data[at : at + CHUNK_BYTES]
                chunks[number] = chunk
                for cache in caches:
                    await cache.put(self._key(info, number), chunk)
            return chunks

    def _key(self, info: ObjectInfo, number: int) -> bytes:
        return "\0".join((self._name, info.key, info.etag, str(number))).encode()

    def _remember(self, info: ObjectInfo) -> None:
        if info.key.endswith(INODE_SUFFIX) or not info.etag:
            return
        self._known[info.key] = info
        self._known.move_to_end(info.key)
        if len(self._known) > _MAX_OBJECTS:
            self._known.popitem(last=False)


async def _find(caches: Sequence[ChunkCache], key: bytes) -> bytes | None:
    """A chunk from the first cache that has it; those before it get it too."""
    for depth, cache in enumerate(caches):
        chunk = await cache.get(key)
        if chunk is not None:
            for nearer in caches[:depth]:
                await nearer.put(key, chunk)
            return chunk
    return None


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as ranges without a gap, both ends included."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
