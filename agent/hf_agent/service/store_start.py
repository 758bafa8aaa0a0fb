"""What the agent does with a store once, before and beside the first flushes."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import structlog

from hf_agent.clock import Clock, ulid
from hf_agent.store.base import Store, StoreError
from hf_agent.store.patient import patient
from hf_agent.store.preflight import preflight

__all__ = ["abort_left_uploads", "preflight_attempt"]

_SCRATCH = ".hf-agent-preflight"
"""Folder of the preflight's scratch keys. None of them ends like a container's inode."""

_log = structlog.get_logger(__name__)


def preflight_attempt(
    store: Store, *, clock: Clock, rng: random.Random
) -> Callable[[], Awaitable[None]]:
    """One preflight of `store` for each call, raising the store's errors."""

    async def attempt() -> None:
        # Keys of its own for each try: what an attempt whose answers were lost has left behind
        # must not be taken for somebody else's by the next one.
        scratch = f"{_SCRATCH}/{ulid(clock, rng)}"
        # Commits get along with a store that fails now and then; so must this.
        await preflight(patient(store, clock=clock, rng=rng), scratch)

    return attempt


async def abort_left_uploads(store: Store, prefix: str, *, before: float) -> None:
    """Abort the uploads that an earlier process of this node began below `prefix` and left.

    Never fails: what is left once more costs room until the next start, or until the bucket's
    lifecycle rule ends it.
    """
    if not prefix:
        _log.debug("left uploads are not looked for: store.key gives no folder to each node")
        return
    try:
        aborted = await store.abort_left_uploads(prefix, before=before)
    except StoreError as error:
        _log.warning("left uploads could not be aborted", prefix=prefix, reason=str(error))
        return
    if aborted:
        _log.info("aborted uploads that an earlier process left", prefix=prefix, uploads=aborted)
