"""An object store in memory that can be made to fail before or after a call has its effect."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    StoreConflict,
    StoreNotFound,
)


@dataclass
class Call:
    """One call of the store, as hooks see it."""

    operation: str
    key: str
    body: bytes = b""
    ranged: tuple[int | None, int | None, int | None] = (None, None, None)
    metadata: dict[str, str] = field(default_factory=dict)


Hook = Callable[[Call], None]
"""Raises to make the call fail; may change the store."""


@dataclass
class StoredObject:
    body: bytes
    etag: str
    last_modified: float
    metadata: dict[str, str] = field(default_factory=dict)


class MemoryStore:
    """Satisfies `hf_agent.store.base.Store`.

    `before` runs before a call has its effect, `after` once it has: an error raised in `after`
    is a lost answer. `now` is the store's clock.
    """

    def __init__(self, *, metadata: bool = True, now: float = 1_000_000.0) -> None:
        self.supports_metadata = metadata
        self.objects: dict[str, StoredObject] = {}
        self.now = now
        self.calls: list[Call] = []
        self.before: Hook = lambda call: None
        self.after: Hook = lambda call: None
        self._writes = 0

    @classmethod
    def of_folder(
        cls, folder: Path, prefix: str, *, inode_metadata: Mapping[str, str] | None = None
    ) -> MemoryStore:
        """A store that holds a folder's files below `prefix`."""
        store = cls()
        for path in sorted(folder.iterdir()):
            store.put(f"{prefix}/{path.name}", path.read_bytes())
        if inode_metadata:
            store.objects[f"{prefix}/inode"].metadata.update(inode_metadata)
        return store

    def put(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> str:
        """Write without any condition, as somebody else would; returns the etag."""
        self._writes += 1
        kept = dict(metadata or {}) if self.supports_metadata else {}
        etag = f"{hashlib.sha256(body).hexdigest()[:16]}-{self._writes}"
        self.objects[key] = StoredObject(body, etag, self.now, kept)
        return etag

    def body(self, key: str) -> bytes:
        return self.objects[key].body

    def written(self, operation: str) -> list[str]:
        """Keys of the calls of one operation so far."""
        return [call.key for call in self.calls if call.operation == operation]

    def _begin(self, call: Call) -> Call:
        self.calls.append(call)
        self.before(call)
        return call

    def _info(self, key: str, stored: StoredObject) -> ObjectInfo:
        return ObjectInfo(
            key=key,
            size=len(stored.body),
            etag=stored.etag,
            last_modified=stored.last_modified,
            date=self.now,
            metadata=dict(stored.metadata),
        )

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        call = self._begin(Call("get", key, ranged=(start, end, suffix)))
        stored = self.objects.get(key)
        if stored is None:
            raise StoreNotFound(f"no such object key={key}")
        if if_match is not None and stored.etag != if_match:
            raise StoreConflict(f"the object has another etag key={key}")
        size = len(stored.body)
        first = max(size - suffix, 0) if suffix is not None else min(start or 0, size)
        last = size if end is None else min(end, size)
        data = ObjectData(self._info(key, stored), stored.body[first:last], first)
        self.after(call)
        return data

    async def head(self, key: str) -> ObjectInfo:
        call = self._begin(Call("head", key))
        stored = self.objects.get(key)
        if stored is None:
            raise StoreNotFound(f"no such object key={key}")
        info = self._info(key, stored)
        self.after(call)
        return info

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        call = self._begin(Call("create", key, _joined(body), metadata=dict(metadata or {})))
        if key in self.objects:
            raise StoreConflict(f"the object exists key={key}")
        etag = self.put(key, call.body, metadata)
        self.after(call)
        return etag

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        call = self._begin(Call("replace", key, _joined(body), metadata=dict(metadata or {})))
        stored = self.objects.get(key)
        if stored is None:
            raise StoreNotFound(f"no such object key={key}")
        if stored.etag != etag:
            raise StoreConflict(f"the object has another etag key={key}")
        new = self.put(key, call.body, metadata)
        self.after(call)
        return new

    async def delete(self, key: str) -> None:
        call = self._begin(Call("delete", key))
        self.objects.pop(key, None)
        self.after(call)

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        call = self._begin(Call("list", prefix))
        given: set[str] = set()
        for key in sorted(self.objects, reverse=True):
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                rolled = prefix + rest.split(delimiter, 1)[0] + delimiter
                if rolled not in given:
                    given.add(rolled)
                    yield rolled
                continue
            yield replace(self._info(key, self.objects[key]), metadata={})
        self.after(call)

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        self.after(self._begin(Call("abort_left_uploads", prefix)))
        return 0

    async def close(self) -> None:
        self.calls.append(Call("close", ""))


def _joined(body: Body) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return b"".join(bytes(piece) for piece in body)
