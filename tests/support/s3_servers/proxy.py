"""An HTTP server in a thread of its own that serves a handler, and a handler that asks a server."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TypeAlias
from urllib.parse import urlsplit

from support.s3_servers.messages import (
    MAX_HEAD_BYTES,
    Request,
    Response,
    error_response,
    read_request,
    read_response,
)

__all__ = ["Backend", "Handler", "HttpProxy", "Reply", "ResetConnection"]

_BROKEN = (ConnectionError, asyncio.IncompleteReadError)
_GIVE_UP = 30.0
"""Seconds that the thread has to start, and to end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response, and how much of it is delivered."""

    response: Response
    share: float = 1.0
    """What is sent of the body (of the head, where there is no body) before the connection ends."""
    stall: float = 0.0
    """Seconds of silence at that place, unless the client ends the connection before."""


class ResetConnection(Exception):
    """Raised by a handler: the client gets a reset instead of an answer."""


Handler: TypeAlias = Callable[[Request], Awaitable[Reply]]


class HttpProxy:
    """Serves a handler on a free port of the loopback interface, until it is closed."""

    def __init__(self, handle: Handler) -> None:
        self._handle = handle
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self.failures: list[Exception] = []
        """Errors of the handler itself: a test that ends well has none."""
        self._thread = threading.Thread(target=self._run, name="http proxy", daemon=True)
        self._thread.start()
        assert self._started.wait(_GIVE_UP), "the proxy did not start"

    def close(self) -> None:
        """End every connection, and the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_GIVE_UP)
            assert not self._thread.is_alive(), "the proxy did not end"
        assert not self.failures, self.failures

    def __enter__(self) -> HttpProxy:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=MAX_HEAD_BYTES)
        port = server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # transports end in the next turn of the loop

    def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve_connection(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve_connection(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while (request := await read_request(reader, writer)) is not None:
                try:
                    reply = await self._handle(request)
                except ResetConnection:
                    _reset(writer)
                    return
                except Exception as error:
                    if not isinstance(error, _BROKEN):
                        self.failures.append(error)
                    reply = Reply(error_response(502, "BadGateway", "the server is away", request))
                if not await _deliver(reply, reader, writer):
                    return
        except _BROKEN:
            pass  # the client went first
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            writer.close()


async def _deliver(reply: Reply, reader: StreamReader, writer: StreamWriter) -> bool:
    """Send what is to be sent; returns whether the connection goes on."""
    head, body = reply.response.encode()
    if reply.share >= 1:
        writer.write(head + body)
        await writer.drain()
        return True
    cut = len(head) + int(reply.share * len(body)) if body else int(reply.share * len(head))
    writer.write((head + body)[:cut])
    await writer.drain()
    if reply.stall:
        try:
            async with asyncio.timeout(reply.stall):
                await reader.read(1)  # returns when the client gives up
        except TimeoutError:
            _reset(writer)
    return False


def _reset(writer: StreamWriter) -> None:
    """End the connection so that the client gets a reset, not an orderly end."""
    held: socket.socket = writer.get_extra_info("socket")
    held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Backend:
    """A handler that passes requests on to a server, each over a connection of its own."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname and parts.port
        self._place = (parts.hostname, parts.port)

    async def __call__(self, request: Request) -> Reply:
        """Send the request once, whatever becomes of it."""
        reader, writer = await asyncio.open_connection(*self._place, limit=MAX_HEAD_BYTES)
        try:
            writer.write(request.encode(close=True))
            await writer.drain()
            return Reply(await read_response(reader, request.method))
        finally:
            writer.close()
