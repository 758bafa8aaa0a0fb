"""Which caches a reader has."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.hyperfile.cache.caching_store import CachingStore
from hf_agent.hyperfile.cache.chunk_cache import ChunkCache
from hf_agent.hyperfile.cache.disk_cache import DiskCache
from hf_agent.hyperfile.cache.memory_cache import MemoryCache
from hf_agent.store.base import Store

__all__ = ["CacheOptions"]


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """Sizes in bytes."""

    memory_bytes: int = 64 << 20
    """Of chunks in memory; 0: none."""
    directory: str | os.PathLike[str] | None = None
    """Of the cache on a local disk; any processes may share it. None: there is none."""
    disk_bytes: int = 4 << 30
    """Of chunks in `directory`."""

    def over(self, store: Store, name: str, *, clock: Clock, rng: random.Random) -> Store:
        """`store` with these caches, or as it is. `name` tells it from other stores."""
        caches: list[ChunkCache] = []
        if self.memory_bytes:
            caches.append(MemoryCache(self.memory_bytes))
        if self.directory is not None:
            caches.append(DiskCache(Path(self.directory), self.disk_bytes, clock=clock, rng=rng))
        return CachingStore(store, name, caches) if caches else store
