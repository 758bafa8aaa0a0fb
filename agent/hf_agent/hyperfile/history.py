"""History: which checkpoints a state was built on, by their base fingerprints, newest first.

Numbers alone do not tell: a number may have gone to a commit that lost, or to other bytes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.fingerprints import fingerprints_of_state
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.opening import FoundCheckpoint, read_checkpoint
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["ancestors", "read_checkpoints"]

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


async def ancestors(
    checkpoints: AsyncIterator[FoundCheckpoint], newest: int | None, *, bridge: int = 0
) -> AsyncIterator[FoundCheckpoint]:
    """Those of `checkpoints` (newest first) that checkpoint `newest` was built on, itself included.

    With `newest` None, that is the first one given. Where a base is not recorded, the next one
    that is there is taken for it. A base may also be nowhere: older checkpoints were removed, or
    the inode was changed without a checkpoint (as by setting a longer size). The history ends
    there; or, with `bridge`, goes on with the next one when none of `bridge` further ones fits.
    """
    expected: int | None = None
    waiting: list[tuple[FoundCheckpoint, frozenset[int]]] = []

    def fits(found: FoundCheckpoint, names: frozenset[int]) -> bool:
        if expected is None:
            return newest in (None, found.header.checkpoint)
        return expected == 0 or expected in names

    def take(*, at_end: bool) -> FoundCheckpoint | None:
        nonlocal expected
        position = next((at for at, item in enumerate(waiting) if fits(*item)), None)
        if position is None:
            if not bridge:
                waiting.clear()
            # What was built on the same state is no ancestor: it is a commit that lost.
            waiting[:] = [item for item in waiting if item[0].header.base != expected]
            if len(waiting) <= (0 if at_end else bridge):
                return None
            position = 0
        found = waiting[position][0]
        del waiting[: position + 1]
        expected = found.header.base
        return found

    async for candidate in checkpoints:
        waiting.append((candidate, fingerprints_of_state(candidate.header.inode)))
        while (match := take(at_end=False)) is not None:
            yield match
    while (match := take(at_end=True)) is not None:
        yield match
