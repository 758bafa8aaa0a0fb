"""Whether a store honours conditional writes: some S3-compatible servers ignore the headers.

The commit of a container rests on them. A store that says yes to everything would let two writers
overwrite each other in silence.
"""

from __future__ import annotations

from collections.abc import Awaitable

from hf_agent.store.base import Store, StoreConflict, StoreRefused

__all__ = ["check_conditional_writes"]

_FIRST, _SECOND, _THIRD = b"first", b"second", b"third"


async def check_conditional_writes(store: Store, key: str) -> None:
    """Write an object at `key`, which nobody else uses, in every way; remove it again.

    Raises `StoreRefused` that says what the store lets pass, and the store's errors.
    """
    etag = await store.create(key, _FIRST)
    try:
        await _refused(store.create(key, _SECOND), "creating an object that exists", key)
        await store.replace(key, _SECOND, etag=etag)
        await _refused(
            store.replace(key, _THIRD, etag=etag), "replacing an object that has changed", key
        )
        if (await store.get(key)).data != _SECOND:
            raise StoreRefused(
                f"the store changed an object by a write that it refused; use another "
                f"store key={key}"
            )
    finally:
        await store.delete(key)


async def _refused(write: Awaitable[str], what: str, key: str) -> None:
    try:
        await write
    except StoreConflict:
        return
    raise StoreRefused(
        f"the store does not honour conditional writes: it allowed {what}; use a store that does "
        f"key={key}"
    )
