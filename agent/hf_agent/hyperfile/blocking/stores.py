"""Stores that open files share: a connection pool for each place and set of options."""

from __future__ import annotations

import random
from dataclasses import dataclass

from hf_agent.clock import Clock
from hf_agent.store.base import Store
from hf_agent.store.options import S3Options
from hf_agent.store.retrying import RetryingStore
from hf_agent.store.url import open_store

__all__ = ["SharedStores"]


@dataclass(slots=True)
class _Shared:
    store: Store
    users: int


class SharedStores:
    """Counts who uses which store, and closes one when nobody does. Lives on one event loop."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng
        self._stores: dict[tuple[str, S3Options], _Shared] = {}

    def take(self, url: str, options: S3Options) -> Store:
        """The store at `url`; give it back with `give_back`. Raises `StoreUrlError`."""
        shared = self._stores.get((url, options))
        if shared is None:
            store = RetryingStore(
                open_store(url, options=options, clock=self._clock, rng=self._rng),
                clock=self._clock,
                rng=self._rng,
            )
            shared = self._stores[url, options] = _Shared(store, 0)
        shared.users += 1
        return shared.store

    async def give_back(self, url: str, options: S3Options) -> None:
        """One user less."""
        shared = self._stores[url, options]
        shared.users -= 1
        if not shared.users:
            del self._stores[url, options]
            await shared.store.close()
