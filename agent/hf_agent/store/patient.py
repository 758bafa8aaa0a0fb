"""A store whose requests are sent again when no answer came, a few times, with pauses.

For something that takes many requests and can say nothing before the last of them: one in twenty
that goes wrong would spoil most attempts. A write that is sent again may find itself done already,
and is then refused; who uses this compares what is there.

The first request is not sent again before one has been answered: a store that is away altogether
is reported at once.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from hf_agent.clock import Clock
from hf_agent.store.base import Body, ObjectData, ObjectInfo, Store, StoreError, StoreRetry

__all__ = ["PatientStore", "patient"]

_T = TypeVar("_T")

_PAUSES = (0.1, 0.4, 1.6, 3.2)
"""Seconds before each further try; half of it to all of it is waited."""


def patient(store: Store, *, clock: Clock, rng: random.Random) -> Store:
    """`store`, with patience; it has `create_in_parts` where `store` has it."""
    kind = _PatientInParts if hasattr(store, "create_in_parts") else PatientStore
    return kind(store, clock=clock, rng=rng)


class PatientStore:
    """Satisfies `Store`. Closing it is left to whoever opened the store inside."""

    def __init__(self, store: Store, *, clock: Clock, rng: random.Random) -> None:
        self.supports_metadata = store.supports_metadata
        self._store = store
        self._clock = clock
        self._rng = rng
        self._answers = False

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
        return await self._call(
            lambda: self._store.get(key, start=start, end=end, suffix=suffix, if_match=if_match)
        )

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._call(lambda: self._store.head(key))

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`."""
        return await self._call(lambda: self._store.create(key, body, metadata=metadata))

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`."""
        return await self._call(
            lambda: self._store.replace(key, body, etag=etag, metadata=metadata)
        )

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._call(lambda: self._store.delete(key))

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`. Nothing is given before the listing is complete."""

        async def whole() -> list[ObjectInfo | str]:
            return [item async for item in self._store.list(prefix, delimiter=delimiter)]

        for item in await self._call(whole):
            yield item

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`."""
        return await self._call(lambda: self._store.abort_left_uploads(prefix, before=before))

    async def close(self) -> None:
        """Does nothing."""

    async def _call(self, request: Callable[[], Awaitable[_T]]) -> _T:
        for pause in _PAUSES:
            try:
                answer = await request()
            except StoreRetry:
                if not self._answers:
                    raise
            except StoreError:
                self._answers = True
                raise
            else:
                self._answers = True
                return answer
            await self._clock.sleep(pause * (0.5 + self._rng.random() / 2))
        return await request()


class _PatientInParts(PatientStore):
    async def create_in_parts(self, key: str, body: Body, **rest: Any) -> str:
        inside: Any = self._store
        return await self._call(lambda: inside.create_in_parts(key, body, **rest))
