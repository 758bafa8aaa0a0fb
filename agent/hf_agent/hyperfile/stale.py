"""Tells an old version whose objects were removed from a damaged container."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from hf_agent.hyperfile.errors import FormatError, MissingObject, NoSuchContainer, StaleVersion
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.keys import checkpoint_key
from hf_agent.hyperfile.opening import reach_state
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["refuse_stale", "telling_stale", "tells_stale"]

P = ParamSpec("P")
R = TypeVar("R")


class _Handle(Protocol):
    async def _refuse_stale(self, missing: MissingObject) -> None: ...


H = TypeVar("H", bound=_Handle)


async def refuse_stale(
    store: Store, key: str, opened: Inode, missing: MissingObject, *, pinned: bool
) -> None:
    """Raise `StaleVersion` if that is why an object is missing: the container has moved on from
    the version that was `opened`; or, when it was opened as a certain checkpoint (`pinned`), that
    one is there no more.

    Does nothing where the object belongs to what the container is now: that is damage. Raises the
    store's errors.
    """
    why = await _why_gone(store, key, opened, pinned=pinned)
    if why:
        raise StaleVersion(key, opened.last_cno, why, object=missing.object) from missing


async def _why_gone(store: Store, key: str, opened: Inode, *, pinned: bool) -> str:
    number = opened.last_cno
    try:
        now = (await reach_state(store, key, checked=False)).inode
    except NoSuchContainer:
        return "the container was removed"
    except FormatError:
        return ""
    if pinned:
        try:
            await store.head(checkpoint_key(key, number, opened.meta.pointer_format))
        except StoreNotFound:
            return "its checkpoint was removed"
        return ""
    # Owner and times may change without a further version.
    if (now.last_cno, now.root, now.meta) != (number, opened.root, opened.meta):
        return f"the container is at checkpoint {now.last_cno}"
    return ""


@asynccontextmanager
async def telling_stale(
    store: Store, key: str, opened: Inode, *, pinned: bool
) -> AsyncIterator[None]:
    """Have what is read of a version in the block ask `refuse_stale` about a missing object."""
    try:
        yield
    except MissingObject as missing:
        await refuse_stale(store, key, opened, missing, pinned=pinned)
        raise


def tells_stale(
    method: Callable[Concatenate[H, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[H, P], Coroutine[Any, Any, R]]:
    """Have a method that meets a missing object ask the handle's `_refuse_stale` first."""

    async def call(handle: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(handle, *args, **kwargs)
        except MissingObject as missing:
            await handle._refuse_stale(missing)
            raise

    update_wrapper(call, method)
    return call
