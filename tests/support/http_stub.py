"""HTTP servers that answer as a test tells them to: one that speaks HTTP, one of raw bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

__all__ = ["Answer", "Recorded", "StubServer", "raw_server", "stub_server"]


@dataclass
class Recorded:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is answered; `wait` is awaited first."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    wait: Callable[[], Awaitable[object]] | None = None


@dataclass
class StubServer:
    """A server whose answers `respond` decides; `requests` are those that came."""

    url: str
    respond: Callable[[Recorded], Answer] = lambda request: Answer()
    requests: list[Recorded] = field(default_factory=list)


@asynccontextmanager
async def stub_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[StubServer]:
    """An HTTP server, or HTTPS with `tls`, on a free port of the loopback interface."""
    stub = StubServer("")

    async def handle(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        recorded = Recorded(
            request.method, request.path, dict(request.query), headers, await request.read()
        )
        stub.requests.append(recorded)
        answer = stub.respond(recorded)
        if answer.wait:
            await answer.wait()
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        port = runner.addresses[0][1]
        stub.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        yield stub
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server that runs `serve` for each connection and closes it; gives its URL."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client went first, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()
