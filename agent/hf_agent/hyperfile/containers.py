"""Containers below a prefix of a store, and what one of them is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from hf_agent.hyperfile.inode import FLAG_COMPACTION, INODE_BYTES, decode_inode
from hf_agent.hyperfile.keys import INODE_SUFFIX, inode_key
from hf_agent.hyperfile.opening import reach_state
from hf_agent.store.base import ObjectInfo, Store

__all__ = ["ContainerStat", "list_containers", "stat_container"]


@dataclass(frozen=True, slots=True)
class ContainerStat:
    """What one container is now. Sizes in bytes, times in Unix seconds."""

    key: str
    size: int
    checkpoint: int
    """Number of the newest checkpoint; 0 when there is none."""
    last_number: int
    """The highest checkpoint number that is taken."""
    modified: float
    """The inode's mtime."""
    blocks: int
    """Stored data blocks (and explicit zero blocks) of the current content."""
    block_size: int
    meta_block_size: int
    pointer_format: int
    layout: str
    """`current` or `0.2`."""
    inline: bool
    """Whether the content stands in the inode itself."""
    compaction_attached: bool
    unfinished_commits: int
    """Commits that are in force, but that the stored inode does not know of yet."""


async def list_containers(store: Store, prefix: str = "") -> AsyncIterator[str]:
    """Keys of the containers whose key starts with `prefix`, in no promised order.

    Goes through every object below the prefix: a store has no list of containers. Raises the
    store's errors.
    """
    async for info in store.list(prefix):
        if not isinstance(info, ObjectInfo) or info.size != INODE_BYTES:
            continue
        key = info.key.removesuffix(INODE_SUFFIX)
        if key and key != info.key and key.startswith(prefix):
            yield key


async def stat_container(store: Store, key: str) -> ContainerStat:
    """What the container at `key` is now.

    Raises `NoSuchContainer`, `FormatError`, and the store's errors.
    """
    state = await reach_state(store, key)
    inode, meta = state.inode, state.inode.meta
    stored = decode_inode(state.stored, source=inode_key(key))
    return ContainerStat(
        key=key,
        size=inode.size,
        checkpoint=inode.last_cno,
        last_number=state.last_number,
        modified=inode.mtime_ns / 1e9,
        blocks=inode.blocks * 512 // meta.data_block_size,
        block_size=meta.data_block_size,
        meta_block_size=meta.meta_block_size,
        pointer_format=int(meta.pointer_format),
        layout=inode.layout.value,
        inline=inode.inline is not None,
        compaction_attached=bool(stored.flags & FLAG_COMPACTION),
        unfinished_commits=len(state.taken_up),
    )
