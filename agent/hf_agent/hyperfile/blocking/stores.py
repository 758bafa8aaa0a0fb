"""Stores that open files share: a connection pool, and caches, for each place and its options."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

from hf_agent.clock import Clock
from hf_agent.hyperfile.cache.options import CacheOptions
from hf_agent.store.base import Store
from hf_agent.store.options import S3Options
from hf_agent.store.retrying import RetryingStore
from hf_agent.store.url import open_store

__all__ = ["SharedStores", "StorePlace"]


class StorePlace(NamedTuple):
    """A store, and how it is reached."""

    url: str
    s3: S3Options
    caches: CacheOptions

    def open(self, *, clock: Clock, rng: random.Random) -> Store:
        """The store, with retries and caches. Raises `StoreUrlError`."""
        plain = open_store(self.url, options=self.s3, clock=clock, rng=rng)
        store = RetryingStore(plain, clock=clock, rng=rng)
        return self.caches.over(store, f"{self.s3.endpoint_url} {self.url}", clock=clock, rng=rng)


@dataclass(slots=True)
class _Shared:
    store: Store
    users: int


class SharedStores:
    """Counts who uses which store, and closes one when nobody does. Lives on one event loop."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._stores: dict[StorePlace, _Shared] = {}

    def take(self, place: StorePlace) -> Store:
        """The store at `place`; give it back with `give_back`. Raises `StoreUrlError`."""
        shared = self._stores.get(place)
        if shared is None:
            store = place.open(clock=self._clock, rng=self._rng)
            shared = self._stores[place] = _Shared(store, 0)
        shared.users += 1
        return shared.store

    async def give_back(self, place: StorePlace) -> None:
        """One user less."""
        shared = self._stores[place]
        shared.users -= 1
        if not shared.users:
            del self._stores[place]
            await shared.store.close()
