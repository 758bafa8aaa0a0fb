"""Whether a store is fit for commits, found out on a scratch key before anything is written."""

from __future__ import annotations

from hf_agent.store.base import Store
from hf_agent.store.conditional_writes import check_conditional_writes

__all__ = ["preflight"]


async def preflight(store: Store, scratch: str) -> None:
    """Try all that commits need at the key `scratch`, which nobody else uses; remove it again.

    Raises `StoreRefused` that says what is wrong with the store, and the store's errors.
    """
    await check_conditional_writes(store, scratch)
