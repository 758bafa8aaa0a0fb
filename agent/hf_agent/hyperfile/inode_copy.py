"""The stored inode against its copy in the header of its checkpoint.

`R/inode` has no checksum of its own: its layout has no room for one. But it is byte for byte the
inode in the header of the newest checkpoint, and that is covered by checksums. So a damaged inode
shows as a difference. A program may also change an inode on purpose without writing a checkpoint
(owner, times, a longer size): that leaves the map as it is, and changes more than one bit.

What this cannot see: while a container has no checkpoint there is no copy. Number, owner, mode,
times, link count and flags of its inode could then be anything; none of them decides over content.
"""

from __future__ import annotations

from hf_agent.hyperfile.errors import ChecksumError, FormatError, MissingObject
from hf_agent.hyperfile.inode import (
    FLAG_COMPACTION,
    FLAG_INLINE,
    INODE_BYTES,
    Inode,
    InodeLayout,
    decode_inode,
    with_flags,
)
from hf_agent.hyperfile.keys import checkpoint_key, inode_key
from hf_agent.hyperfile.nodes import DIRECT_ROOT_BYTES_EMPTY, pack_user_data
from hf_agent.hyperfile.opening import FoundCheckpoint, State, read_checkpoint
from hf_agent.hyperfile.stale import refuse_stale
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["check_inode", "copied_in", "inode_was_changed", "read_newest_checkpoint"]

_FLAGS_AT = 60
_SIZE_AT = 72


async def read_newest_checkpoint(store: Store, state: State) -> FoundCheckpoint | None:
    """The checkpoint that a state's inode belongs to, the two compared; None when there is none.

    Raises `StaleVersion` when the container has moved on from the state and its checkpoint was
    removed, `ChecksumError`, `FormatError`, and the store's errors.
    """
    number, pointer_format = state.inode.last_cno, state.inode.meta.pointer_format
    if number == 0:
        check_inode(state.key, state.inode_bytes, None)
        return None
    try:
        found = await read_checkpoint(store, state.key, number, pointer_format)
    except StoreNotFound as error:
        missing = MissingObject(
            "the inode's checkpoint is not there",
            object=checkpoint_key(state.key, number, pointer_format),
            offset=0,
        )
        await refuse_stale(store, state.key, state.inode, missing, pinned=False)
        raise missing from error
    check_inode(state.key, state.inode_bytes, found.header.inode)
    return found


def copied_in(stored: bytes) -> int:
    """Number of the checkpoint that should hold a copy of an inode; 0 when none does.

    For an inline inode, that is the one it would name if its flag were damage. What stands in
    its place is content, so there may be no such checkpoint.
    """
    inode = decode_inode(stored, source="inode")
    if inode.inline is None:
        return inode.last_cno
    try:
        return decode_inode(with_flags(stored, clear=FLAG_INLINE), source="inode").last_cno
    except FormatError:
        return 0


def check_inode(key: str, stored: bytes, copy: bytes | None) -> None:
    """Compare the inode of the container at `key` with its copy, if it has one.

    Raises `ChecksumError` when one of them is damaged, `FormatError` when one is no inode.
    """
    inode = decode_inode(stored, source=inode_key(key))
    if inode.inline is not None:
        at, problem = _FLAGS_AT, "an inode with checkpoints says that it is inline"
        sound = copy is None or with_flags(stored, clear=FLAG_INLINE) != copy
    elif copy is None:
        at, problem = _SIZE_AT, "an inode without checkpoints describes content"
        sound = _describes_nothing(inode)
    else:
        at = _first_difference(inode, stored, copy)
        problem = f"the inode differs from its copy in checkpoint {inode.last_cno}"
        sound = at == INODE_BYTES or inode_was_changed(stored, copy)
    if not sound:
        raise ChecksumError("inode", object=inode_key(key), offset=at, problem=problem)


def inode_was_changed(stored: bytes, copy: bytes) -> bool:
    """Whether an inode differs from its checkpoint's as by a change on purpose."""
    inode = decode_inode(stored, source="inode")
    if inode.inline is not None or _first_difference(inode, stored, copy) == INODE_BYTES:
        return False
    before = decode_inode(copy, source="inode")
    bits = (int.from_bytes(stored, "little") ^ int.from_bytes(copy, "little")).bit_count()
    return (
        bits > 1
        and (inode.meta, inode.root, inode.blocks) == (before.meta, before.root, before.blocks)
        and inode.last_cno == before.last_cno
        and inode.last_seq >= before.last_seq
        and inode.size >= before.size
    )


def _first_difference(inode: Inode, stored: bytes, copy: bytes) -> int:
    if inode.layout is InodeLayout.CURRENT:
        # A compactor sets this bit in the stored inode alone.
        stored = with_flags(stored, clear=FLAG_COMPACTION)
        copy = with_flags(copy, clear=FLAG_COMPACTION)
    pairs = enumerate(zip(stored, copy, strict=True))
    return next((at for at, (left, right) in pairs if left != right), INODE_BYTES)


def _describes_nothing(inode: Inode) -> bool:
    # A longer size may be set without a checkpoint. That moves a time, or changes several bits.
    as_created = inode.atime_ns == inode.mtime_ns == inode.ctime_ns
    flipped = as_created and inode.size.bit_count() + inode.last_seq.bit_count() == 1
    empty = pack_user_data(DIRECT_ROOT_BYTES_EMPTY, inode.meta.pointer_format)
    return not (flipped or inode.blocks) and inode.root == empty
