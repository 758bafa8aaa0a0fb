"""A store that tries again, for those who have no better plan than to wait a little.

What the agent does with its WAL behind it, to wait for as long as it takes, is wrong for a program
that reads a file: here there is an end.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from hf_agent.clock import Clock
from hf_agent.store.base import Body, ObjectData, ObjectInfo, Store, StoreRetry

__all__ = ["Patience", "RetryingStore"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try again."""

    tries: int = 8
    """Most tries of one request."""
    first_pause: float = 0.1
    """Seconds before the second try; doubled for each further one, and jittered by half."""
    longest_pause: float = 5.0

    def __post_init__(self) -> None:
        if self.tries < 1 or self.first_pause < 0 or self.longest_pause < 0:
            raise ValueError(f"tries are 1 or more, and pauses 0 or more patience={self}")


class RetryingStore:
    """A `Store` that repeats what ended in `StoreRetry`, and raises that when patience is over.

    A write whose answer was lost is refused when it is repeated (`StoreConflict`): writers find
    out by the mark that they gave the object, as they have to anyway.
    """

    def __init__(
        self, store: Store, *, clock: Clock, rng: random.Random, patience: Patience | None = None
    ) -> None:
        self._store = store
        self._clock = clock
        self._rng = rng
        self._patience = patience or Patience()
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
        return await self._try(
            lambda: self._store.get(key, start=start, end=end, suffix=suffix, if_match=if_match)
        )

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._try(lambda: self._store.head(key))

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`."""
        return await self._try(lambda: self._store.create(key, body, metadata=metadata))

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`."""
        return await self._try(lambda: self._store.replace(key, body, etag=etag, metadata=metadata))

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._try(lambda: self._store.delete(key))

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`. A listing that breaks off begins again, and gives nothing twice."""
        given: set[str] = set()
        tries = 0
        while True:
            tries += 1
            try:
                async for entry in self._store.list(prefix, delimiter=delimiter):
                    name = entry if isinstance(entry, str) else entry.key
                    if name not in given:
                        given.add(name)
                        yield entry
            except StoreRetry:
                if tries >= self._patience.tries:
                    raise
                await self._pause(tries)
            else:
                return

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`."""
        return await self._try(lambda: self._store.abort_left_uploads(prefix, before=before))

    async def close(self) -> None:
        """See `Store.close`."""
        await self._store.close()

    async def _try(self, request: Callable[[], Awaitable[_Result]]) -> _Result:
        tries = 0
        while True:
            tries += 1
            try:
                return await request()
            except StoreRetry:
                if tries >= self._patience.tries:
                    raise
            await self._pause(tries)

    async def _pause(self, tries: int) -> None:
        patience = self._patience
        pause = min(patience.first_pause * 2.0 ** (tries - 1), patience.longest_pause)
        await self._clock.sleep(pause * self._rng.uniform(0.5, 1.0))
