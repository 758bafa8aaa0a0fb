"""One agent's way to a store that it shares with others, and on which its calls can be held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from hf_agent.store.base import Body, ObjectData, ObjectInfo, StoreRetry
from support.memory_store import MemoryStore

_T = TypeVar("_T")
When = Literal["before", "after"]


@dataclass
class Pause:
    """A call that waits: `reached` once it is there, on its way again once it is released."""

    operation: str
    suffix: str
    when: When
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait(self) -> None:
        await asyncio.wait_for(self.reached.wait(), 30)

    def release(self) -> None:
        self.released.set()


@dataclass
class Late:
    """A write whose caller was told that no answer came, and that has its effect at `land`."""

    operation: str
    suffix: str
    sent: asyncio.Event = field(default_factory=asyncio.Event)
    write: Callable[[], Awaitable[Any]] | None = None

    async def wait(self) -> None:
        await asyncio.wait_for(self.sent.wait(), 30)

    async def land(self) -> None:
        """Have the effect now; raises what the store raises."""
        assert self.write is not None
        await self.write()


class StoreFront:
    """Satisfies `hf_agent.store.base.Store`; every call goes on to the shared store."""

    def __init__(self, store: MemoryStore) -> None:
        self.shared = store
        self.supports_metadata = store.supports_metadata
        self.gets: list[str] = []
        self.disturb: Callable[[str, str, When], Awaitable[None]] | None = None
        """Awaited around every call, with operation, key and when; raises to lose it."""
        self._pauses: list[Pause] = []
        self._late: list[Late] = []

    def pause(self, operation: str, suffix: str, when: When = "before") -> Pause:
        """Have the next such call wait, before or after it has its effect."""
        pause = Pause(operation, suffix, when)
        self._pauses.append(pause)
        return pause

    def delay(self, operation: str, suffix: str) -> Late:
        """Have the next such write fail for its caller, and land when the test says so."""
        late = Late(operation, suffix)
        self._late.append(late)
        return late

    async def _around(self, operation: str, key: str, call: Callable[[], Awaitable[_T]]) -> _T:
        for late in self._late:
            if late.operation == operation and key.endswith(late.suffix):
                self._late.remove(late)
                late.write = call
                late.sent.set()
                raise StoreRetry(f"no answer key={key}")
        await self._stop(operation, key, "before")
        answer = await call()
        await self._stop(operation, key, "after")
        return answer

    async def _stop(self, operation: str, key: str, when: When) -> None:
        for pause in self._pauses:
            if (pause.operation, pause.when) == (operation, when) and key.endswith(pause.suffix):
                self._pauses.remove(pause)
                pause.reached.set()
                await pause.released.wait()
                break
        if self.disturb is not None:
            await self.disturb(operation, key, when)

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        self.gets.append(key)
        return await self._around(
            "get",
            key,
            lambda: self.shared.get(key, start=start, end=end, suffix=suffix, if_match=if_match),
        )

    async def head(self, key: str) -> ObjectInfo:
        return await self._around("head", key, lambda: self.shared.head(key))

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        sent = _copy(body)  # the caller may use its buffers again before a late write lands
        return await self._around(
            "create", key, lambda: self.shared.create(key, sent, metadata=metadata)
        )

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        sent = _copy(body)
        return await self._around(
            "replace", key, lambda: self.shared.replace(key, sent, etag=etag, metadata=metadata)
        )

    async def delete(self, key: str) -> None:
        await self._around("delete", key, lambda: self.shared.delete(key))

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        async for item in self.shared.list(prefix, delimiter=delimiter):
            yield item

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        return await self.shared.abort_left_uploads(prefix, before=before)

    async def close(self) -> None:
        """The shared store is the test's."""


def _copy(body: Body) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    return b"".join(bytes(piece) for piece in body)
