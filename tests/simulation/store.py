"""The simulated bucket, and a process's way to it, on which requests and answers go astray.

As S3 promises: each write is atomic and seen by every later read and listing, conditions are
compared at the moment of the write. What may differ is when that moment is, how often it comes,
and whether anybody hears of it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from simulation.kernel import Kernel, Process

__all__ = ["Bucket", "SimStore", "Weather"]

_T = TypeVar("_T")
_EPOCH = 1_700_000_000
_PAGE = 20


@dataclass(frozen=True, slots=True)
class Object:
    body: bytes
    etag: str
    last_modified: int
    metadata: dict[str, str]


@dataclass
class Weather:
    """How requests fare. Chances of one request; the rest comes through."""

    state: Literal["well", "away", "refused", "expired"] = "well"
    fail_before: float = 0.0
    """The request is lost."""
    fail_after: float = 0.0
    """The answer is lost."""
    late: float = 0.0
    """Given up by its sender, and has its effect later all the same."""
    twice: float = 0.0
    """Arrives twice; the sender hears the answer to the first, or to the second."""
    slow: float = 0.0
    """Takes up to seconds."""


class Bucket:
    """Objects and their versions. `on_write` is told of each write and removal as it happens."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.objects: dict[str, Object] = {}
        self.weather = Weather()
        self.on_write: list[Callable[[str, bytes | None], None]] = []

    def info(self, key: str) -> ObjectInfo:
        found = self._find(key)
        date = float(_EPOCH + int(self.kernel.now))
        size = len(found.body)
        return ObjectInfo(key, size, found.etag, found.last_modified, date, dict(found.metadata))

    def _find(self, key: str) -> Object:
        found = self.objects.get(key)
        if found is None:
            raise StoreNotFound(f"no such object key={key}")
        return found

    def get(
        self, key: str, start: int | None, end: int | None, suffix: int | None, match: str | None
    ) -> ObjectData:
        found = self._find(key)
        if match is not None and found.etag != match:
            raise StoreConflict(f"the object has another etag key={key}")
        size = len(found.body)
        first = max(size - suffix, 0) if suffix is not None else min(start or 0, size)
        last = size if end is None else min(end, size)
        return ObjectData(self.info(key), found.body[first:last], first)

    def put(
        self, key: str, body: bytes, metadata: dict[str, str], *, etag: str | None = None
    ) -> str:
        """With `etag`, replace the object that has it, else create the object."""
        if etag is not None and self._find(key).etag != etag:
            raise StoreConflict(f"the object has another etag key={key}")
        if etag is None and key in self.objects:
            raise StoreConflict(f"the object exists key={key}")
        new = hashlib.blake2b(body, digest_size=8).hexdigest()
        modified = _EPOCH + int(self.kernel.now)
        self.objects[key] = Object(body, new, modified, metadata)
        self.kernel.trace.event(self.kernel.now, "create" if etag is None else "replace", key, new)
        for observer in self.on_write:
            observer(key, body)
        return new

    def delete(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            self.kernel.trace.event(self.kernel.now, "delete", key)
            for observer in self.on_write:
                observer(key, None)


class SimStore:
    """Implements `hf_agent.store.base.Store` for one process."""

    supports_metadata = True

    def __init__(self, bucket: Bucket, process: Process, *, root: str = "") -> None:
        self._bucket = bucket
        self._process = process
        self._kernel = bucket.kernel

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        bucket = self._bucket
        return await self._ask(key, lambda: bucket.get(key, start, end, suffix, if_match))

    async def head(self, key: str) -> ObjectInfo:
        return await self._ask(key, lambda: self._bucket.info(key))

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        data, kept = _joined(body), dict(metadata or {})
        return await self._ask(key, lambda: self._bucket.put(key, data, kept), writes=True)

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        data, kept = _joined(body), dict(metadata or {})
        return await self._ask(
            key, lambda: self._bucket.put(key, data, kept, etag=etag), writes=True
        )

    async def delete(self, key: str) -> None:
        await self._ask(key, lambda: self._bucket.delete(key), writes=True)

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        after = ""
        given: set[str] = set()
        while True:
            page = await self._ask(prefix, lambda after=after: self._page(prefix, after))  # type: ignore[misc]
            for info in page:
                rest = info.key[len(prefix) :]
                if delimiter and delimiter in rest:
                    rolled = prefix + rest.split(delimiter, 1)[0] + delimiter
                    if rolled not in given:
                        given.add(rolled)
                        yield rolled
                else:
                    yield info
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _page(self, prefix: str, after: str) -> Sequence[ObjectInfo]:
        keys = sorted(key for key in self._bucket.objects if key.startswith(prefix) and key > after)
        return [self._bucket.info(key) for key in keys[:_PAGE]]

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        return await self._ask(prefix, lambda: 0)

    async def close(self) -> None:
        pass

    async def _ask(self, key: str, effect: Callable[[], _T], *, writes: bool = False) -> _T:
        """Make a request: `effect` is what the bucket does when it arrives."""
        self._process.stop_if_dead()
        kernel, weather = self._kernel, self._bucket.weather
        rng = kernel.rng
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def tell(result: _T | None, error: Exception | None) -> None:
            if not self._process.dead:
                loop.call_soon_threadsafe(_settle, answer, result, error)

        def arrive(heard: bool) -> None:
            if self._process.dead and rng.random() < 0.3:
                return  # it was still in the buffers of who died
            result, error = None, None
            if (error := self._refusal(key)) is None:
                try:
                    result = effect()
                except StoreError as refused:
                    error = refused
            if heard:
                kernel.after(self._latency(), lambda: tell(result, error))

        def lost() -> None:
            tell(None, StoreRetry(f"no answer came key={key}"))

        chance = rng.random()
        first = self._latency()
        for fate in ("fail_before", "fail_after", "late", "twice"):
            share: float = getattr(weather, fate)
            if chance < share and (writes or fate == "fail_before"):
                break
            chance -= share
        else:
            fate = ""
        if fate:
            kernel.trace.event(kernel.now, f"store-{fate.replace('_', '-')}", key)
        if fate == "fail_before":
            kernel.after(first, lost)
        elif fate == "fail_after":
            kernel.after(first, lambda: arrive(False))
            kernel.after(first + self._latency(), lost)
        elif fate == "late":
            kernel.after(first, lost)
            delay = rng.choice((0.1, 1.0, 10.0, 60.0)) * rng.random()
            kernel.after(first + delay, lambda: arrive(False))
        elif fate == "twice":
            hears_first = rng.random() < 0.5
            kernel.after(first, lambda: arrive(hears_first))
            delay = rng.choice((0.01, 0.1, 10.0)) * rng.random() if hears_first else 0.01
            kernel.after(first + delay, lambda: arrive(not hears_first))
        else:
            kernel.after(first, lambda: arrive(True))
        return await answer

    def _refusal(self, key: str) -> StoreError | None:
        state = self._bucket.weather.state
        if state == "well":
            return None
        self._kernel.trace.count(f"store-{state}")
        if state == "refused":
            error: StoreError = StoreRefused(f"access denied key={key}")
            error.code = "AccessDenied"
            return error
        error = StoreRetry(f"no store key={key}")
        error.code = "ExpiredToken" if state == "expired" else "timeout"
        return error

    def _latency(self) -> float:
        rng = self._kernel.rng
        if rng.random() < self._bucket.weather.slow:
            return rng.random() * 3.0
        return 0.001 + rng.random() * 0.02


def _settle(answer: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if answer.done():
        return  # whoever asked has gone
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def _joined(body: Body) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return b"".join(bytes(piece) for piece in body)
