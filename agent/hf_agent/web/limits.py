"""Bounds of the HTTP server: how many connections, and how long one may say nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

__all__ = ["Admission", "Limits"]

_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 21\r\nConnection: close\r\n\r\ntoo many connections\n"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes, seconds and counts."""

    connections: int = 64
    header_bytes: int = 8190
    """Of the request line, and of any one header."""
    headers: int = 64
    body_bytes: int = 64 << 10
    first_request_seconds: float = 10.0
    """A connection that has not sent a whole request by then is closed."""
    keepalive_seconds: float = 75.0


class Admission:
    """Makes the protocol of each new connection: the server's own, or one that says "busy"."""

    def __init__(self, server: web.Server, limits: Limits) -> None:
        self._server = server
        self._limits = limits
        self._silent: dict[asyncio.Protocol, asyncio.TimerHandle] = {}

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._limits.connections:
            return _Busy()
        handler = self._server()
        self._silent[handler] = asyncio.get_running_loop().call_later(
            self._limits.first_request_seconds, self._give_up, handler
        )
        return handler

    def has_asked(self, handler: asyncio.Protocol) -> None:
        """The connection has sent a whole request."""
        if timer := self._silent.pop(handler, None):
            timer.cancel()

    def close(self) -> None:
        """Forget every timer."""
        for timer in self._silent.values():
            timer.cancel()
        self._silent.clear()

    def _give_up(self, handler: web.RequestHandler) -> None:
        self._silent.pop(handler, None)
        handler.force_close()


class _Busy(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_BUSY)
        transport.close()
