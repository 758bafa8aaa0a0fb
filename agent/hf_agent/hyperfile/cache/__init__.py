"""Caches for what is read of checkpoint objects, in memory and on a local disk.

Checkpoint objects are never overwritten, so what was read of one stays true for as long as the
object has the same etag.
"""

from __future__ import annotations

from hf_agent.hyperfile.cache.caching_store import CachingStore
from hf_agent.hyperfile.cache.chunk_cache import ChunkCache
from hf_agent.hyperfile.cache.disk_cache import DiskCache
from hf_agent.hyperfile.cache.memory_cache import MemoryCache
from hf_agent.hyperfile.cache.options import CacheOptions

__all__ = ["CacheOptions", "CachingStore", "ChunkCache", "DiskCache", "MemoryCache"]
