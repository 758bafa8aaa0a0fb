"""The protocol of an object store, its value types and its errors.

A store is a flat map from keys to immutable byte strings with conditional writes. Whether a
caller may try again is visible in the type of the error: `StoreRetry` (yes, for ever),
`StoreConflict` (a condition did not hold: look at what is there), `StoreRefused` (an operator
has to change something), `StoreNotFound` (the object is not there).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

__all__ = [
    "Body",
    "ObjectData",
    "ObjectInfo",
    "Store",
    "StoreConflict",
    "StoreError",
    "StoreNotFound",
    "StoreRefused",
    "StoreRetry",
]

Buffer: TypeAlias = bytes | bytearray | memoryview
Body: TypeAlias = Buffer | Sequence[Buffer]
"""What is written: one buffer, or several that are stored one after the other, uncopied."""


class StoreError(Exception):
    """Base of all store errors. Message: lower case, says what and where, `key=value` last."""

    code: str = ""
    """Short and machine-readable, for metrics: an errno name, an S3 error code or a status."""


class StoreRetry(StoreError):
    """Trying again later may succeed: network, timeouts, throttling, a full disk, credentials.

    After a write it leaves open whether the write was done: the answer may be what was lost.
    """


class StoreConflict(StoreError):
    """A condition of a write did not hold: the object exists, or its etag is another one."""


class StoreRefused(StoreError):
    """The store refuses until an operator changes something: policy, missing bucket, rights."""


class StoreNotFound(StoreError):
    """The object does not exist."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store knows of an object without its bytes."""

    key: str
    size: int
    """Length of the whole object in bytes."""
    etag: str
    """Opaque; compare for equality only. Empty in listings of a store that would have to read
    the object to tell it."""
    last_modified: float
    """Unix seconds by the store's clock."""
    date: float
    """Unix seconds of the answer by the store's clock (equal to the local time where unknown)."""
    metadata: Mapping[str, str]
    """User metadata, lower-case names without the `x-amz-meta-` prefix. Empty in listings."""


@dataclass(frozen=True, slots=True)
class ObjectData:
    """An object, or a range of it."""

    info: ObjectInfo
    data: bytes
    offset: int
    """Where `data` starts in the object."""


class Store(Protocol):
    """One object store below one root; keys are relative to it, '/'-separated, no leading slash."""

    supports_metadata: bool
    """Whether user metadata survives a write. Where not, compare bytes to find a lost answer."""

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        """Read an object: all of it, bytes `[start, end)`, or its last `suffix` bytes.

        A range that reaches past the end is cut there; one that begins at or past it gives
        empty data, with the object's size as its offset. Raises `StoreNotFound`,
        `StoreConflict` (`if_match`), `StoreRetry`, `StoreRefused`.
        """
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Size, etag, times and metadata of an object. Raises `StoreNotFound`."""
        ...

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Write an object that must not exist yet; returns its etag. Raises `StoreConflict`."""
        ...

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Replace an object whose etag is still `etag`; returns the new one.

        Raises `StoreConflict` when it is another, or `StoreNotFound` when the object is gone.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; removing one that is not there succeeds."""
        ...

    def list(self, prefix: str = "", *, delimiter: str = "") -> AsyncIterator[ObjectInfo | str]:
        """Objects whose key starts with `prefix`, in no promised order.

        With `delimiter="/"`, keys with a further '/' after the prefix are rolled up and given
        once, as a plain `str` that ends in '/'.
        """
        ...

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """Abort unfinished uploads of keys that start with `prefix`; returns how many.

        Only those that were begun before `before` (Unix seconds by the store's clock). A store
        without such uploads has none to abort. Raises the store's errors.
        """
        ...

    async def close(self) -> None:
        """Give back connections and descriptors. Idempotent."""
        ...
