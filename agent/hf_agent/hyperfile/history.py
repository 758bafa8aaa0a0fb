"""History: which checkpoints a state was built on, by their base fingerprints, newest first.

Numbers alone do not tell: a number may have gone to a commit that lost, or to other bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.fingerprints import fingerprints_of_state
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.opening import FoundCheckpoint, read_checkpoint
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["Descent", "ancestors", "read_checkpoints"]

T = TypeVar("T")

_BATCH = 16
"""Headers that are read side by side."""


async def read_checkpoints(
    store: Store,
    key: str,
    numbers: Iterable[int],
    pointer_format: PointerFormat,
    *,
    skip_damaged: bool = False,
) -> AsyncIterator[FoundCheckpoint]:
    """The good checkpoint objects among `numbers`, in that order; reads ahead in growing batches.

    Raises `ChecksumError` for one with a damaged header unless that is to be skipped as well, and
    the store's errors.
    """

    async def look(number: int) -> FoundCheckpoint | None:
        try:
            found = await read_checkpoint(store, key, number, pointer_format)
        except (FormatError, StoreNotFound) as error:
            if isinstance(error, ChecksumError) and not skip_damaged:
                raise
            return None
        good = found.header.checkpoint == number and not found.header.partial
        return found if good and found.inode.inline is None else None

    remaining, size = iter(numbers), 1
    while batch := list(islice(remaining, size)):
        for found in await map_concurrently(look, batch, limit=_BATCH):
            if found is not None:
                yield found
        size = min(size * 2, _BATCH)


class Descent(Generic[T]):
    """Picks, out of checkpoints given newest first, those that checkpoint `newest` was built on.

    With `newest` None, that is the first one given. Where a base is not recorded, the next one
    that is there is taken for it. A base may also be nowhere: older checkpoints were removed, or
    the inode was changed without a checkpoint (as by setting a longer size). The history ends
    there; or, with `bridge`, goes on with the next one when none of `bridge` further ones fits.
    """

    def __init__(self, newest: int | None, *, bridge: int = 0) -> None:
        self._newest = newest
        self._bridge = bridge
        self._expected: int | None = None
        self._waiting: list[tuple[T, int, int, frozenset[int]]] = []

    def offer(self, item: T, number: int, base: int, names: frozenset[int]) -> Iterator[T]:
        """Take the next checkpoint, with the fingerprints of its base and of its own state; gives
        those that belong to the history as far as that is known now."""
        self._waiting.append((item, number, base, names))
        yield from self._take(self._bridge)

    def end(self) -> Iterator[T]:
        """No further checkpoint comes: gives the rest of the history."""
        yield from self._take(0)

    def _take(self, bridge: int) -> Iterator[T]:
        waiting = self._waiting
        while True:
            position = next((at for at, each in enumerate(waiting) if self._fits(each)), None)
            if position is None:
                if not self._bridge:
                    waiting.clear()
                # What was built on the same state is no ancestor: it is a commit that lost.
                waiting[:] = [each for each in waiting if each[2] != self._expected]
                if len(waiting) <= bridge:
                    return
                position = 0
            item, _, self._expected, _ = waiting[position]
            del waiting[: position + 1]
            yield item

    def _fits(self, candidate: tuple[T, int, int, frozenset[int]]) -> bool:
        _, number, _, names = candidate
        if self._expected is None:
            return self._newest in (None, number)
        return self._expected == 0 or self._expected in names


async def ancestors(
    checkpoints: AsyncIterator[FoundCheckpoint], newest: int | None, *, bridge: int = 0
) -> AsyncIterator[FoundCheckpoint]:
    """Those of `checkpoints` (newest first) that checkpoint `newest` was built on, itself included.

    `newest` and `bridge` are those of `Descent`.
    """
    descent: Descent[FoundCheckpoint] = Descent(newest, bridge=bridge)
    async for found in checkpoints:
        header = found.header
        names = fingerprints_of_state(header.inode)
        for each in descent.offer(found, header.checkpoint, header.base, names):
            yield each
    for each in descent.end():
        yield each
