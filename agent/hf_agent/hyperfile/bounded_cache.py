"""A cache whose values together stay below a bound; the one used longest ago goes first."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["BoundedCache"]

K = TypeVar("K")
V = TypeVar("V")


class BoundedCache(Generic[K, V]):
    """Costs and bound are bytes. A value that costs more than the bound is not kept."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._values: OrderedDict[K, tuple[int, V]] = OrderedDict()
        self.cost = 0
        """What the values kept cost together, never more than the bound."""

    def get(self, key: K) -> V | None:
        """The value that is kept for `key`."""
        kept = self._values.get(key)
        if kept is None:
            return None
        self._values.move_to_end(key)
        return kept[1]

    def put(self, key: K, value: V, cost: int) -> None:
        """Keep a value, in the place of one that was kept for `key`."""
        if cost > self._bound:
            return
        replaced = self._values.pop(key, None)
        self.cost += cost - (replaced[0] if replaced is not None else 0)
        self._values[key] = (cost, value)
        while self.cost > self._bound:
            _, (freed, _) = self._values.popitem(last=False)
            self.cost -= freed

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
        self.cost = 0
