"""Both clients behind one face, so that one test shows the same of each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from hf_agent.client import AsyncClient, Client, ClientOptions
from hf_agent.client.parts import AppendPart

KINDS = ("sync", "async")


class AnyClient(Protocol):
    """What both have."""

    async def append(
        self, stream: str, data: bytes, ack: str = "wal", *, expect_position: int | None = None
    ) -> int: ...
    async def append_together(self, parts: Iterable[AppendPart], ack: str = "wal") -> int: ...
    async def wait(self, id: int) -> None: ...
    async def wait_acknowledged(self) -> None: ...
    async def flush(self, stream: str | None = None) -> None: ...
    async def status(self) -> dict[str, Any]: ...
    async def close(self) -> None: ...
    async def abort(self) -> None: ...
    @property
    def unacknowledged(self) -> int: ...


class Threaded:
    """A `Client` whose calls run on other threads, so that they may block."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def append(
        self, stream: str, data: bytes, ack: str = "wal", *, expect_position: int | None = None
    ) -> int:
        return await asyncio.to_thread(
            self.client.append, stream, data, ack, expect_position=expect_position
        )

    async def append_together(self, parts: Iterable[AppendPart], ack: str = "wal") -> int:
        return await asyncio.to_thread(self.client.append_together, parts, ack)

    async def wait(self, id: int) -> None:
        await asyncio.to_thread(self.client.wait, id)

    async def wait_acknowledged(self) -> None:
        await asyncio.to_thread(self.client.wait_acknowledged)

    async def flush(self, stream: str | None = None) -> None:
        await asyncio.to_thread(self.client.flush, stream)

    async def status(self) -> dict[str, Any]:
        return await asyncio.to_thread(self.client.status)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)

    async def abort(self) -> None:
        await asyncio.to_thread(self.client.abort)

    @property
    def unacknowledged(self) -> int:
        return self.client.unacknowledged


async def connect(
    kind: str, path: Path, producer: str | None = None, *, epoch: int = 0, **options: Any
) -> AnyClient:
    """A connected client of that kind."""
    chosen = ClientOptions(**options)
    if kind == "async":
        return await AsyncClient(path, producer, epoch=epoch, options=chosen).connect()
    return Threaded(
        await asyncio.to_thread(lambda: Client(path, producer, epoch=epoch, options=chosen))
    )
