"""Ranges of objects for the check, and a bound on what it keeps of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Generic, TypeVar

from hf_agent.store.base import Store, StoreNotFound

__all__ = ["WINDOW_BYTES", "Kept", "get", "windows"]

WINDOW_BYTES = 1 << 20

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


async def get(store: Store, key: str, start: int, end: int) -> bytes:
    """Bytes `[start, end)` of an object, fewer where it ends before; none of one that has gone."""
    if start >= end:
        return b""
    try:
        return (await store.get(key, start=start, end=end)).data
    except StoreNotFound:
        return b""


async def windows(store: Store, key: str, start: int, end: int) -> AsyncIterator[bytes]:
    """The same in pieces of up to 1 MiB."""
    for at in range(start, end, WINDOW_BYTES):
        yield await get(store, key, at, min(at + WINDOW_BYTES, end))


class Kept(Generic[K, V]):
    """What was used last, up to `most` bytes, and always the newest one."""

    def __init__(self, most: int, cost: Callable[[V], int]) -> None:
        self._most = most
        self._cost = cost
        self._kept: OrderedDict[K, V] = OrderedDict()
        self._bytes = 0

    def get(self, key: K) -> V | None:
        """What is kept under `key`."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep `value`, and drop what was not used for the longest time."""
        if key in self._kept:
            self._bytes -= self._cost(self._kept.pop(key))
        self._bytes += self._cost(value)
        self._kept[key] = value
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._cost(self._kept.popitem(last=False)[1])
