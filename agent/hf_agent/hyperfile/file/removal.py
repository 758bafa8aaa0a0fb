"""Removing a container.

The inode goes first. From then on the container is gone, as a whole: whoever opens it is told so,
and a writer that is at it cannot publish any more, because there is no inode to swap. (With the
inode last, others would meanwhile see a container that looks damaged, and a writer could commit
what is then removed.) A reader that has it open fails when it comes to an object that is gone.

The objects that were listed can be deleted without looking again: their names are created once, so
a container that somebody creates at the same key meanwhile cannot have one of them.
"""

from __future__ import annotations

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import FormatError, NoSuchContainer
from hf_agent.hyperfile.inode import INODE_BYTES
from hf_agent.hyperfile.keys import inode_key, parse_object_key
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["remove"]

_AT_A_TIME = 16
_BATCH = 1000
_PASSES = 3
"""Listings: a writer that was at it may leave an object behind after the first."""


async def remove(store: Store, key: str) -> int:
    """Remove the container at `key` with all of its checkpoints; returns the objects deleted.

    Other objects below the key, such as other containers, stay. Call it again after `StoreRetry`,
    or to finish a removal that was interrupted.

    Raises `NoSuchContainer` when there is neither an inode nor a checkpoint object, `FormatError`
    when what stands there as inode is none, and the store's errors.
    """
    deleted = 0
    try:
        info = await store.head(inode_key(key))
        if info.size != INODE_BYTES:
            rule = f"an inode has exactly {INODE_BYTES} bytes, not {info.size}"
            raise FormatError(rule, object=inode_key(key), offset=0)
        await store.delete(inode_key(key))
        deleted += 1
    except StoreNotFound:
        pass  # perhaps the objects of a removal that was interrupted are left
    for _ in range(_PASSES):
        names = await _list_objects(store, key)
        if not names or await _exists(store, inode_key(key)):
            break  # or somebody has created another container here, and some may be its objects
        for start in range(0, len(names), _BATCH):
            await map_concurrently(store.delete, names[start : start + _BATCH], limit=_AT_A_TIME)
        deleted += len(names)
    if not deleted:
        raise NoSuchContainer(key)
    return deleted


async def _list_objects(store: Store, key: str) -> list[str]:
    return [
        info.key
        async for info in store.list(key + "/")
        if isinstance(info, ObjectInfo) and parse_object_key(key, info.key) is not None
    ]


async def _exists(store: Store, name: str) -> bool:
    try:
        await store.head(name)
    except StoreNotFound:
        return False
    return True
