"""Whether a store is fit for containers: tried on scratch keys, before anything rests on it.

The commit of a container rests on two conditions that some S3-compatible servers ignore in silence,
or honour only while nobody else writes. Then two writers would overwrite each other unnoticed. So
both are tried one after the other and side by side, and with them everything else that a container
needs.

It makes some fifty requests, of which a store in trouble fails now and then one: each is tried a
few times, and a write without an answer is looked for before it is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol, TypeVar, runtime_checkable

from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    Store,
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.observer import coded
from hf_agent.store.rights import DENIED, Right, named

__all__ = ["preflight"]

_T = TypeVar("_T")
_Write = Callable[[], Awaitable[str]]

_RACERS = 8
"""Writes at the same time, of which one may win."""
_TRIES = 6
"""Of one request, one right after the other. A right is missing when it is denied each time: rights
that were just given, or taken, are not known to every server of a store at once."""
_BODY_BYTES = 1000
_CLEAN_UP_SECONDS = 10.0


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
                    await self._delete(key)
        except (StoreError, TimeoutError):
            pass  # what led here is the one to tell

    # -- what is tried --------------------------------------------------------------------------

    async def _nothing_is_there(self) -> None:
        absent = self._key("absent")
        if found := await self._list():
            raise self._unfit(f"a listing of unused keys shows {len(found)} objects", absent)
        for read in (self._store.get, self._store.head):
            try:
                await self._tried(Right.READ_ABSENT, lambda read=read: read(absent))  # type: ignore[misc]
            except StoreNotFound:
                continue
            raise self._unfit("an object is there that nobody wrote", absent)

    async def _one_after_the_other(self, key: str) -> None:
        absent = self._key("absent")
        first, second, third = self._body(), self._body(), self._body()
        etag = await self._succeeds(self._creating(key, first), key, first)
        await self._reads(key, first)
        await self._is_refused(self._creating(key, third), "creating an object that exists", key)
        await self._succeeds(self._replacing(key, second, etag), key, second)
        await self._is_refused(
            self._replacing(key, third, etag), "replacing an object that has changed", key
        )
        await self._is_refused(
            self._replacing(absent, third, etag), "replacing an object that is not there", absent
        )
        await self._reads(key, second)

    async def _side_by_side(self, key: str) -> None:
        etag = await self._one_wins(key, "created", lambda body: self._creating(key, body))
        await self._one_wins(key, "replaced", lambda body: self._replacing(key, body, etag))

    async def _in_parts(self, store: _UploadsInParts, key: str) -> None:
        first, second = self._body(), self._body()

        def creating(body: bytes) -> _Write:
            self._made.add(key)
            return lambda: store.create_in_parts(key, body, metadata=_mark(body))

        await self._succeeds(creating(first), key, first)
        await self._is_refused(creating(second), "creating an object that exists, in parts", key)
        await self._reads(key, first)

    async def _listed(self) -> None:
        if missing := self._made - {self._key("absent")} - await self._list():
            raise self._unfit("a listing lacks an object that was just written", min(missing))

    async def _deleted(self) -> None:
        for key in sorted(self._made):
            # More than once: a write that was held up on its way may have brought it back.
            for _ in range(_TRIES):
                await self._delete(key)
                if await self._found(key) is None:
                    self._made.discard(key)
                    break
            else:
                raise self._unfit("an object is still there after it was deleted", key)

    # -- how: reads -----------------------------------------------------------------------------

    async def _reads(self, key: str, body: bytes) -> None:
        """Whole, by HEAD, by a range and from the end."""
        store, size = self._store, len(body)
        head = await self._tried(Right.READ, lambda: store.head(key))
        whole = await self._tried(Right.READ, lambda: store.get(key))
        middle = await self._tried(Right.READ, lambda: store.get(key, start=100, end=200))
        end = await self._tried(Right.READ, lambda: store.get(key, suffix=64))
        if whole.data != body:
            raise self._unfit("a read gives other bytes than were just written", key)
        if (head.size, head.etag) != (size, whole.info.etag):
            raise self._unfit("HEAD tells another size or etag than GET", key)
        if store.supports_metadata and dict(head.metadata) != _mark(body):
            raise self._unfit("user metadata is not kept as it was written", key)
        if (middle.data, middle.offset) != (body[100:200], 100):
            raise self._unfit("a read of a range gives other bytes", key)
        if (end.data, end.offset) != (body[-64:], size - 64):
            raise self._unfit("a read of the last bytes gives other bytes", key)

    async def _found(self, key: str) -> ObjectData | None:
        try:
            return await self._tried(Right.READ, lambda: self._store.get(key))
        except StoreNotFound:
            return None

    async def _list(self) -> set[str]:
        async def listing() -> set[str]:
            items = [item async for item in self._store.list(f"{self._scratch}/")]
            return {item.key for item in items if isinstance(item, ObjectInfo)}

        return await self._tried(Right.LIST, listing)

    async def _delete(self, key: str) -> None:
        await self._tried(Right.DELETE, lambda: self._store.delete(key))

    # -- how: writes ----------------------------------------------------------------------------

    def _creating(self, key: str, body: bytes) -> _Write:
        self._made.add(key)
        return lambda: self._store.create(key, body, metadata=_mark(body))

    def _replacing(self, key: str, body: bytes, etag: str) -> _Write:
        self._made.add(key)
        return lambda: self._store.replace(key, body, etag=etag, metadata=_mark(body))

    async def _succeeds(self, write: _Write, key: str, body: bytes) -> str:
        """A write whose condition holds; returns the etag."""

        async def attempt() -> str:
            try:
                return await write()
            except (StoreRetry, StoreConflict, StoreNotFound) as error:
                # It may have been done all the same: the answer was lost, or something on the way
                # has sent it twice, and the second one was refused.
                found = await self._found(key)
                if found is not None and found.data == body:
                    return found.info.etag
                if isinstance(error, StoreRetry):
                    raise
                what = f"a write was refused whose condition holds ({error.code})"
                raise self._unfit(what, key) from error

        return await self._tried(Right.WRITE, attempt)

    async def _is_refused(self, write: _Write, what: str, key: str) -> None:
        try:
            await self._tried(Right.WRITE, write)
        except (StoreConflict, StoreNotFound):
            return
        raise self._lenient(what, key)

    async def _one_wins(self, key: str, what: str, writing: Callable[[bytes], _Write]) -> str:
        """Of many writes at the same time; returns the etag of what is there in the end."""
        written: list[bytes] = []

        async def race() -> str:
            bodies = [self._body() for _ in range(_RACERS)]
            written.extend(bodies)
            ends = await asyncio.gather(
                *(writing(body)() for body in bodies), return_exceptions=True
            )
            won = [body for body, end in zip(bodies, ends, strict=True) if isinstance(end, str)]
            if len(won) > 1:
                fault = f"{len(won)} of {_RACERS} that {what} an object at the same time"
                raise self._lenient(fault, key)
            found = await self._found(key)
            # Without a winner, one whose answer was lost, or an earlier race's, may have come in.
            if found is not None and found.data in (won or written):
                return found.info.etag
            if won:
                # One of those that got no answer has come through beside the one that won.
                fault = f"more than one of {_RACERS} that {what} an object at the same time"
                raise self._lenient(fault, key)
            for end in ends:
                harmless = isinstance(end, str | StoreConflict | StoreNotFound)
                if isinstance(end, BaseException) and not harmless:
                    raise end
            raise self._unfit("every one of many writes was refused whose condition holds", key)

        return await self._tried(Right.WRITE, race)

    # -- how: all -------------------------------------------------------------------------------

    async def _tried(self, right: Right, call: Callable[[], Awaitable[_T]]) -> _T:
        """`call`, again while it fails for a reason that may pass; names a missing right."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                return await call()
            except StoreRetry:
                if not left:
                    raise
            except StoreRefused as error:
                if error.code not in DENIED:
                    raise
                if not left:
                    raise named(right, error) from error
        raise AssertionError("unreachable: the last try returns or raises")

    def _key(self, name: str) -> str:
        return f"{self._scratch}/{name}"

    def _body(self) -> bytes:
        """Unlike any other body, in each of its parts."""
        self._bodies += 1
        line = f"{self._bodies} {self._scratch.rpartition('/')[2]} "
        text = "".join(f"{line}{number}\n" for number in range(_BODY_BYTES // len(line) + 1))
        return text.encode().ljust(_BODY_BYTES, b".")[:_BODY_BYTES]

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


def _mark(body: bytes) -> dict[str, str]:
    """The metadata of every conditional write, as in containers."""
    number, name = body.decode().split(maxsplit=2)[:2]
    return {"hf-write": f"{name}-{number}"}
