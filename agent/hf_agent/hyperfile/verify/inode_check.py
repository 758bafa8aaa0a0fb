"""The stored inode: against its copy in its checkpoint, and against its own metadata."""

from __future__ import annotations

from collections.abc import Callable

from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.inode import FLAG_COMPACTION, decode_inode
from hf_agent.hyperfile.inode_copy import check_inode, copied_in, inode_was_changed
from hf_agent.hyperfile.keys import inode_key
from hf_agent.hyperfile.opening import State, read_checkpoint
from hf_agent.hyperfile.verify.report import Kind, Problem
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["check_stored_inode", "inode_problem"]

_COMPACTION_METADATA = "hf-compaction"
_LAST_CNO_AT = 96
_FLAGS_AT = 60


def inode_problem(key: str, kind: Kind, offset: int, text: str) -> Problem:
    """A problem of the inode of the container at `key`."""
    return Problem(-1, kind, 0, inode_key(key), offset, "inode", text)


async def check_stored_inode(
    store: Store, state: State, problem: Callable[[Problem], None], note: Callable[[str], None]
) -> bool:
    """Check the stored inode of a state; whether it can be relied on. Raises the store's errors."""
    key = state.key
    stored = decode_inode(state.stored, source=inode_key(key))
    try:
        info = await store.head(inode_key(key))
    except StoreNotFound:
        info = None
    if info is not None and info.etag == state.etag:  # nobody has gone on meanwhile
        if state.taken_up:
            numbers = ", ".join(str(found.header.checkpoint) for found in state.taken_up[:8])
            note(f"it does not name commits yet that are in force: {numbers}")
        flagged = bool(stored.flags & FLAG_COMPACTION)
        if flagged and not store.supports_metadata:
            note("it says that a compaction is attached, and this store cannot hold one")
        elif store.supports_metadata and flagged != (_COMPACTION_METADATA in info.metadata):
            text = "its flag for an attached compaction contradicts its metadata"
            problem(inode_problem(key, Kind.NOTHING, _FLAGS_AT, text))
    number, copy = copied_in(state.stored), None
    if number:
        try:
            found = await read_checkpoint(store, key, number, stored.meta.pointer_format)
            copy = found.header.inode
        except StoreNotFound:
            if stored.inline is None:
                text = f"it names checkpoint {number}, which is not there"
                problem(inode_problem(key, Kind.CONTENT, _LAST_CNO_AT, text))
                return False
        except FormatError:
            return True  # that object has a finding of its own
    try:
        check_inode(key, state.stored, copy)
    except ChecksumError as error:
        problem(inode_problem(key, Kind.CONTENT, error.offset, error.problem))
        return False
    if copy is not None and inode_was_changed(state.stored, copy):
        note(f"it was changed after checkpoint {number}, without a further checkpoint")
    return True
