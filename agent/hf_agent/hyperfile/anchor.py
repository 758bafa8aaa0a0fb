"""Tells objects of the version that was opened from those of another container at its key.

Objects have no name of their own but their checkpoint's number: a container that is removed, and
made again under its key, has objects of the same names. All that a version refers to was written
before it was opened. So an object that is younger than that is looked at twice: is the version's
own checkpoint still the object that it was?
"""

from __future__ import annotations

from hf_agent.hyperfile.errors import FormatError, StaleVersion
from hf_agent.hyperfile.inode import decode_inode
from hf_agent.hyperfile.opening import FoundCheckpoint
from hf_agent.store.base import ObjectInfo, Store, StoreNotFound

__all__ = ["VersionAnchor"]


class VersionAnchor:
    """The checkpoint object of the version that was opened, as it was then."""

    def __init__(self, store: Store, key: str, found: FoundCheckpoint) -> None:
        self._store = store
        self._key = key
        self._checkpoint = found.header.checkpoint
        self._ctime_ns = found.inode.ctime_ns
        self._object = found.info.key
        self._etag = found.info.etag
        self._newest = found.info.date

    async def check(self, info: ObjectInfo, inode: bytes) -> None:
        """Look whether an object that was read first now, with `inode` in its header, may belong
        to the version. Raises `StaleVersion` when not, and the store's errors."""
        if not self._is_younger(info, inode):
            return
        try:
            now = await self._store.head(self._object)
        except StoreNotFound as error:
            raise self.stale("its checkpoint was removed", info.key) from error
        if now.etag != self._etag:
            raise self.stale("another container was made at its key", info.key)
        # A writer of this process, or a clock that was set: not to be asked again for each object.
        self._newest = max(self._newest, info.last_modified)

    def stale(self, why: str, object: str) -> StaleVersion:
        """The error that says why the version can be read no more, met at an object's key."""
        return StaleVersion(self._key, self._checkpoint, why, object=object)

    def _is_younger(self, info: ObjectInfo, inode: bytes) -> bool:
        if info.last_modified != self._newest:
            return info.last_modified > self._newest
        # Stores tell whole seconds: within one, the writers' clocks decide.
        try:
            return decode_inode(inode, source=info.key).ctime_ns > self._ctime_ns
        except FormatError:
            return False
