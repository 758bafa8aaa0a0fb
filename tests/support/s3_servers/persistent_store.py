"""A store that goes on until it has an answer: what the agent does above its stores.

The agent does it where it knows more: the flusher tries again and backs off, and a commit takes a
refused write for one that landed and whose answer was lost (`hyperfile.commit`,
`hyperfile.refused_write`). Here the same is done below the protocol of a store, so that what every
store must do can be asked of one whose answers get lost.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.refused_write import object_is_ours
from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    Store,
    StoreConflict,
    StoreRefused,
    StoreRetry,
)

__all__ = ["PersistentStore"]

_Answer = TypeVar("_Answer")

_MOST_TRIES = 300
_PAUSE = 0.002


class PersistentStore:
    """Wraps a store that keeps metadata: each write is known by its mark."""

    supports_metadata = True

    def __init__(self, inner: Store, *, clock: Clock, rng: random.Random) -> None:
        self._inner = inner
        self._clock = clock
        self._rng = rng

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
        return await self._persist(
            lambda: self._inner.get(key, start=start, end=end, suffix=suffix, if_match=if_match)
        )

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._persist(lambda: self._inner.head(key))

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`."""
        marked = self._marked(metadata)
        return await self._write(
            key, marked, lambda: self._inner.create(key, body, metadata=marked)
        )

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`."""
        marked = self._marked(metadata)
        return await self._write(
            key, marked, lambda: self._inner.replace(key, body, etag=etag, metadata=marked)
        )

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._persist(lambda: self._inner.delete(key))

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`. A listing that breaks off is begun again; what is given is whole."""

        async def whole() -> list[ObjectInfo | str]:
            return [item async for item in self._inner.list(prefix, delimiter=delimiter)]

        for item in await self._persist(whole):
            yield item

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`."""
        return await self._persist(lambda: self._inner.abort_left_uploads(prefix, before=before))

    async def close(self) -> None:
        """See `Store.close`."""
        await self._inner.close()

    def _marked(self, metadata: Mapping[str, str] | None) -> Mapping[str, str]:
        return {WRITE_MARK: ulid(self._clock, self._rng), **(metadata or {})}

    async def _write(
        self, key: str, metadata: Mapping[str, str], write: Callable[[], Awaitable[str]]
    ) -> str:
        try:
            return await self._persist(write)
        except StoreConflict:
            mark = metadata[WRITE_MARK]
            if not await self._persist(
                lambda: object_is_ours(self._inner, key, memoryview(b""), mark)
            ):
                raise
            return (await self.head(key)).etag

    async def _persist(self, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
        """Try again whatever may pass, which a refusal by the server may, too."""
        for _ in range(_MOST_TRIES):
            try:
                return await attempt()
            except StoreRetry:
                pass
            except StoreRefused as error:
                if error.code not in ("AccessDenied", "403"):
                    raise
            await self._clock.sleep(_PAUSE)
        return await attempt()
