"""An HTTP server over an agent that a test makes up, and one request to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hf_agent.metrics import Metrics
from hf_agent.web.limits import Limits
from hf_agent.web.queries import StreamQuery
from hf_agent.web.server import WebServer

__all__ = ["Agent", "ask", "serving"]


class Agent:
    """What a server asks about, made up by a test."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.reasons: list[str] = []
        self.faults: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.refreshed = 0
        self.query: StreamQuery | None = None
        self.overview: dict[str, Any] = {"events": []}
        self.looks = 0

    def health(self) -> tuple[bool, list[str]]:
        return not self.faults, self.faults

    def ready(self) -> tuple[bool, list[str]]:
        return not self.reasons, self.reasons

    def streams(self, query: StreamQuery) -> tuple[list[dict[str, Any]], int]:
        self.query = query
        rows = [row for row in self.rows if row["stream"].startswith(query.prefix)]
        return rows[query.offset : query.offset + query.limit], len(rows)

    def look(self) -> dict[str, Any]:
        self.looks += 1
        return self.overview

    def refresh(self) -> None:
        self.refreshed += 1
        self.metrics.wal_size.set(self.refreshed)

    def server(
        self, listen: str, limits: Limits | None = None, host_names: Iterable[str] = ()
    ) -> WebServer:
        return WebServer(
            listen,
            metrics=self.metrics,
            health=self.health,
            ready=self.ready,
            status=lambda: {"phase": "running"},
            overview=self.look,
            streams=self.streams,
            refresh=self.refresh,
            limits=limits,
            host_names=host_names,
        )


async def ask(
    where: int | str,
    path: str,
    *,
    method: str = "GET",
    headers: str = "",
    host: str = "127.0.0.1",
) -> tuple[int, dict[str, str], str]:
    """One request over a connection of its own: status, headers, body."""
    if isinstance(where, int):
        reader, writer = await asyncio.open_connection("127.0.0.1", where)
    else:
        reader, writer = await asyncio.open_unix_connection(where)
    named = "" if host is None else f"Host: {host}\r\n"
    writer.write(f"{method} {path} HTTP/1.1\r\n{named}Connection: close\r\n{headers}\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    first, *rest = head.split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in rest)
    return int(first.split()[1]), fields, body


@contextmanager
def serving(agent: Agent, port: int = 0) -> Iterator[str]:
    """Serve from a thread of its own, for a test that has no loop; gives the URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def make() -> WebServer:
        server = agent.server(f"127.0.0.1:{port}")
        await server.start()
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(make(), loop).result(60)
        yield f"http://127.0.0.1:{server.port}/"
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(60)
        loop.close()
