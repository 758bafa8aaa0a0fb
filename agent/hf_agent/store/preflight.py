"""Whether a store is fit for containers: tried on scratch keys, before anything rests on it.

The commit of a container rests on two conditions that some S3-compatible servers ignore in silence,
or honour only while nobody else writes. Then two writers would overwrite each other unnoticed. So
both are tried one after the other and side by side, and with them everything else that a container
needs.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from hf_agent.store.base import (
    Body,
    ObjectInfo,
    Store,
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.observer import coded

__all__ = ["preflight"]

_RACERS = 8
"""Writes at the same time, of which one may win."""
_BODY_BYTES = 1000
_CLEAN_UP_SECONDS = 10.0
_DENIED = ("AccessDenied", "403")
_PAIRS = re.compile(r"\s[a-z_]+=\S.*$", re.DOTALL)

_LIST = "s3:ListBucket on the bucket (without it, S3 answers 403 for an object that is absent)"
_ABSENT = (
    "s3:GetObject, and s3:ListBucket without a condition on s3:prefix (without it, S3 answers 403 "
    "for an object that is absent)"
)
_READ = "s3:GetObject (and kms:Decrypt for the key of the bucket, if there is one)"
_WRITE = "s3:PutObject (and kms:GenerateDataKey for the key of the bucket, if there is one)"
_DELETE = "s3:DeleteObject at least for the keys of the preflight"


@runtime_checkable
class _UploadsInParts(Protocol):
    """A store that writes large objects in parts, which has conditions of its own."""

    async def create_in_parts(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str: ...


async def preflight(store: Store, scratch: str) -> None:
    """Try everything on keys below `scratch` (no slash at its end), which nobody else uses.

    What it made is removed, also when it fails. Raises `StoreRefused` that says what is wrong with
    the store or which right is missing, and the store's errors: `StoreRetry` means that nothing is
    known yet.
    """
    tried = _Preflight(store, scratch)
    try:
        await tried.run()
    except BaseException:
        await tried.clean_up()
        raise


class _Preflight:
    def __init__(self, store: Store, scratch: str) -> None:
        self._store = store
        self._scratch = scratch
        self._made: set[str] = set()
        self._bodies = 0

    async def run(self) -> None:
        await self._nothing_is_there()
        await self._one_after_the_other(self._key("alone"))
        await self._side_by_side(self._key("raced"))
        if isinstance(self._store, _UploadsInParts):
            await self._in_parts(self._store, self._key("parts"))
        await self._listed()
        await self._deleted()

    async def clean_up(self) -> None:
        """Remove what is left, as far as the store lets it; never raises the store's errors."""
        try:
            async with asyncio.timeout(_CLEAN_UP_SECONDS):
                for key in sorted(self._made):
                    await self._store.delete(key)
        except (StoreError, TimeoutError):
            pass  # what led here is the one to tell

    # -- what is tried --------------------------------------------------------------------------

    async def _nothing_is_there(self) -> None:
        absent = self._key("absent")
        with self._needs("listing", _LIST):
            if found := await self._list():
                raise self._unfit(f"a listing of unused keys shows {len(found)} objects", absent)
        with self._needs("reading", _ABSENT):
            for read in (self._store.get, self._store.head):
                try:
                    await read(absent)
                except StoreNotFound:
                    continue
                raise self._unfit("an object is there that nobody wrote", absent)

    async def _one_after_the_other(self, key: str) -> None:
        first, second, third = self._body(), self._body(), self._body()
        etag = await self._succeeds(self._create(key, first), key, first)
        await self._reads(key, first)
        await self._is_refused(self._create(key, third), "creating an object that exists", key)
        await self._succeeds(self._replace(key, second, etag), key, second)
        await self._is_refused(
            self._replace(key, third, etag), "replacing an object that has changed", key
        )
        absent = self._key("absent")
        await self._is_refused(
            self._replace(absent, third, etag), "replacing an object that is not there", absent
        )
        await self._reads(key, second)

    async def _side_by_side(self, key: str) -> None:
        etag = await self._one_wins(key, "created an object", lambda body: self._create(key, body))
        await self._one_wins(key, "replaced an object", lambda body: self._replace(key, body, etag))

    async def _in_parts(self, store: _UploadsInParts, key: str) -> None:
        async def create(body: bytes) -> str:
            self._made.add(key)
            with self._needs("writing in parts", _WRITE):
                return await store.create_in_parts(key, body, metadata=self._mark(body))

        first = self._body()
        await self._succeeds(create(first), key, first)
        await self._is_refused(
            create(self._body()), "creating an object that exists, in parts", key
        )
        await self._reads(key, first)

    async def _listed(self) -> None:
        with self._needs("listing", _LIST):
            found = await self._list()
        if missing := self._made - {self._key("absent")} - found:
            raise self._unfit("a listing lacks an object that was just written", min(missing))

    async def _deleted(self) -> None:
        for key in sorted(self._made):
            with self._needs("deleting", _DELETE):
                await self._store.delete(key)
            try:
                await self._store.head(key)
            except StoreNotFound:
                self._made.discard(key)
                continue
            raise self._unfit("an object is still there after it was deleted", key)

    # -- how ------------------------------------------------------------------------------------

    async def _reads(self, key: str, body: bytes) -> None:
        """Whole, by HEAD, by a range and from the end."""
        size = len(body)
        with self._needs("reading", _READ):
            head = await self._store.head(key)
            whole = await self._store.get(key)
            middle = await self._store.get(key, start=100, end=200)
            end = await self._store.get(key, suffix=64)
        if whole.data != body:
            raise self._unfit("a read gives other bytes than were just written", key)
        if (head.size, head.etag) != (size, whole.info.etag):
            raise self._unfit("HEAD tells another size or etag than GET", key)
        if self._store.supports_metadata and dict(head.metadata) != self._mark(body):
            raise self._unfit("user metadata is not kept as it was written", key)
        if (middle.data, middle.offset) != (body[100:200], 100):
            raise self._unfit("a read of a range gives other bytes", key)
        if (end.data, end.offset) != (body[-64:], size - 64):
            raise self._unfit("a read of the last bytes gives other bytes", key)

    async def _succeeds(self, write: Awaitable[str], key: str, body: bytes) -> str:
        """A write whose condition holds; returns the etag."""
        try:
            return await write
        except (StoreConflict, StoreNotFound) as error:
            refusal = error
        # It may have been done, its answer been lost, and something on the way have sent it again.
        try:
            found = await self._store.get(key)
        except StoreNotFound:
            found = None
        if found is None or found.data != body:
            raise self._unfit(
                f"a write was refused whose condition holds ({refusal.code})", key
            ) from refusal
        return found.info.etag

    async def _is_refused(self, write: Awaitable[str], what: str, key: str) -> None:
        try:
            await write
        except (StoreConflict, StoreNotFound):
            return
        raise self._lenient(what, key)

    async def _one_wins(self, key: str, what: str, write: Callable[[bytes], Awaitable[str]]) -> str:
        """Of many writes at the same time; returns the etag of what is there in the end."""
        bodies = [self._body() for _ in range(_RACERS)]
        ends = await asyncio.gather(*map(write, bodies), return_exceptions=True)
        won = [body for body, end in zip(bodies, ends, strict=True) if isinstance(end, str)]
        if len(won) > 1:
            raise self._lenient(f"{len(won)} of {_RACERS} that {what} at the same time", key)
        for end in ends:
            undecided = isinstance(end, StoreRetry) and not won
            harmless = isinstance(end, str | StoreConflict | StoreNotFound | StoreRetry)
            if isinstance(end, BaseException) and (undecided or not harmless):
                raise end
        try:
            found = await self._store.get(key)
        except StoreNotFound as error:
            raise self._unfit("an object is not there that was just written", key) from error
        if found.data not in (won or bodies):
            # One of those that got no answer has come through beside the one that won.
            raise self._lenient(f"more than one of {_RACERS} that {what} at the same time", key)
        return found.info.etag

    async def _create(self, key: str, body: bytes) -> str:
        self._made.add(key)
        with self._needs("writing", _WRITE):
            return await self._store.create(key, body, metadata=self._mark(body))

    async def _replace(self, key: str, body: bytes, etag: str) -> str:
        self._made.add(key)
        with self._needs("writing", _WRITE):
            return await self._store.replace(key, body, etag=etag, metadata=self._mark(body))

    async def _list(self) -> set[str]:
        items = [item async for item in self._store.list(f"{self._scratch}/")]
        return {item.key for item in items if isinstance(item, ObjectInfo)}

    def _key(self, name: str) -> str:
        return f"{self._scratch}/{name}"

    def _body(self) -> bytes:
        """Unlike any other body, in each of its parts."""
        self._bodies += 1
        line = f"{self._bodies} {self._scratch.rpartition('/')[2]} "
        text = "".join(f"{line}{number}\n" for number in range(_BODY_BYTES // len(line) + 1))
        return text.encode().ljust(_BODY_BYTES, b".")[:_BODY_BYTES]

    def _mark(self, body: bytes) -> dict[str, str]:
        """The metadata of every conditional write, as in containers."""
        number, name = body.decode().split(maxsplit=2)[:2]
        return {"hf-write": f"{name}-{number}"}

    @contextmanager
    def _needs(self, doing: str, rights: str) -> Iterator[None]:
        """Name the right that is missing when a request is denied."""
        try:
            yield
        except StoreRefused as error:
            if error.code not in _DENIED:
                raise
            pairs = found[0] if (found := _PAIRS.search(str(error))) else ""
            raise coded(
                StoreRefused(
                    f"{doing} is denied: allow {rights}; for a directory bucket, "
                    f"s3express:CreateSession{pairs}"
                ),
                error.code,
            ) from error

    def _unfit(self, what: str, key: str) -> StoreError:
        return coded(StoreRefused(f"the store is not fit: {what}; use another key={key}"), "unfit")

    def _lenient(self, what: str, key: str) -> StoreError:
        return coded(
            StoreRefused(
                f"the store does not honour conditional writes: it allowed {what}; use a store "
                f"that does key={key}"
            ),
            "unconditional",
        )
