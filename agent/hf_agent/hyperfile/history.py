"""History: which checkpoints a state was built on, by their base fingerprints, newest first.

Numbers alone do not tell: a number may have gone to a commit that lost, or to other bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Generic, TypeVar

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.fingerprints import fingerprints_of_state
from hf_agent.hyperfile.keys import parse_object_key
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.opening import FoundCheckpoint, read_checkpoint
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["Descent", "ancestors", "read_checkpoints"]

T = TypeVar("T")

_BATCH = 16
"""Headers that are read side by side."""
_GAP = 64
"""So many numbers in a row without a checkpoint are a reason to list what there is."""


async def read_checkpoints(
    store: Store,
    key: str,
    numbers: Sequence[int],
    pointer_format: PointerFormat,
    *,
    skip_damaged: bool = False,
) -> AsyncIterator[FoundCheckpoint]:
    """The good checkpoint objects among `numbers`, in that order; reads ahead in growing batches.

    Of a range, descending, long gaps are left out: an inode may claim any number, and nobody can
    ask for millions of objects one by one.

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

    at, size, missed = 0, 1, 0
    while at < len(numbers):
        batch = list(numbers[at : at + size])
        at += size
        for found in await map_concurrently(look, batch, limit=_BATCH):
            missed += 1
            if found is not None:
                missed = 0
                yield found
        if missed >= _GAP and isinstance(numbers, range):
            numbers, at = await _present(store, key, numbers[at:]), 0
        size = min(size * 2, _BATCH)


async def _present(store: Store, key: str, numbers: range) -> list[int]:
    """Those of `numbers` of which there is an object by the store's listing, newest first."""
    found: set[int] = set()
    async for info in store.list(key + "/"):
        name = parse_object_key(key, info.key) if isinstance(info, ObjectInfo) else None
        if name is not None and name.checkpoint in numbers:
            found.add(name.checkpoint)
    return sorted(found, reverse=True)


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
