"""The HTTP server: metrics, health, status, page. It knows the agent by a few callables only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import structlog
from aiohttp import web

from hf_agent.config.listen_address import TcpAddress, parse_listen_address
from hf_agent.metrics import Metrics
from hf_agent.web import answers
from hf_agent.web.errors import WebServerError
from hf_agent.web.host_names import ANY_NAME, HostNames
from hf_agent.web.limits import Admission, Limits
from hf_agent.web.page import SAFE_HEADERS, load_page
from hf_agent.web.queries import StreamQuery
from hf_agent.web.sockets import OpenSockets, open_sockets

__all__ = ["WebServer", "WebServerError"]

_log = structlog.get_logger(__name__)

Condition: TypeAlias = Callable[[], tuple[bool, list[str]]]
_Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebServer:
    """`start`, then `stop`, each once. The callables are called on the event loop's thread."""

    def __init__(
        self,
        listen: str,
        *,
        metrics: Metrics,
        health: Condition,
        ready: Condition,
        status: Callable[[], dict[str, Any]],
        overview: Callable[[], dict[str, Any]],
        streams: Callable[[StreamQuery], tuple[list[dict[str, Any]], int]],
        refresh: Callable[[], None],
        limits: Limits | None = None,
        host_names: Iterable[str] = (),
    ) -> None:
        """`listen` as in `http.listen`: "host:port", ":port", a Unix socket's path, or "" for none.

        `status` and `overview` give what `/api/` answers under their names, `streams` the rows that
        were asked for and how many match; `health` and `ready` give whether all is well, and why
        not; `refresh` sets the gauges before they are shown. Who asks over TCP by a name that is
        none of `host_names` is not told what the agent has to do with. Raises `ValueError` when
        `listen` is none of those.
        """
        self._address = parse_listen_address(listen)
        if isinstance(self._address, TcpAddress):
            self._host_names = HostNames((self._address.host, *host_names))
        else:
            self._host_names = HostNames((ANY_NAME,))  # no browser reaches a Unix socket
        self._metrics = metrics
        self._health = health
        self._ready = ready
        self._status = status
        self._overview = overview
        self._streams = streams
        self._page = load_page()
        self._refresh = refresh
        self._limits = limits or Limits()
        self._runner: web.AppRunner | None = None
        self._admission: Admission | None = None
        self._sockets: OpenSockets | None = None
        self._servers: list[asyncio.Server] = []
        self.port = 0
        """The TCP port in use once it is started; 0 for none."""

    @property
    def address(self) -> str:
        """Where it listens, as in `http.listen`, with the port that was chosen for port 0."""
        if isinstance(self._address, TcpAddress):
            return str(TcpAddress(self._address.host, self.port or self._address.port))
        return str(self._address or "")

    async def start(self) -> None:
        """Listen and answer. Raises `WebServerError`."""
        if self._address is None:
            return
        sockets = self._sockets = open_sockets(self._address)
        limits = self._limits
        runner = self._runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=limits.keepalive_seconds,
            max_line_size=limits.header_bytes,
            max_field_size=limits.header_bytes,
            max_headers=limits.headers,
        )
        await runner.setup()
        assert runner.server is not None
        self._admission = Admission(runner.server, limits)
        loop = asyncio.get_running_loop()
        for each in sockets.sockets:
            if each.family == socket.AF_UNIX:
                server = await loop.create_unix_server(self._admission, sock=each)
            else:
                self.port = each.getsockname()[1]
                server = await loop.create_server(self._admission, sock=each)
            self._servers.append(server)
        _log.info("serving HTTP", listen=str(self._address), port=self.port)

    async def stop(self) -> None:
        """Close the sockets and every connection. Idempotent."""
        if self._sockets is not None:
            self._sockets.unlink()
        for server in self._servers:
            server.close()
        if self._admission is not None:
            self._admission.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._servers, self._runner, self._sockets = [], None, None

    def _application(self) -> web.Application:
        app = web.Application(
            client_max_size=self._limits.body_bytes, middlewares=[self._first_request]
        )
        app.on_response_prepare.append(_harden)
        app.router.add_get("/", self._guarded(self._get_page))
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/healthz", self._get_health)
        app.router.add_get("/readyz", self._get_ready)
        app.router.add_get("/api/status", self._guarded(self._get_status))
        app.router.add_get("/api/overview", self._guarded(self._get_overview))
        app.router.add_get("/api/streams", self._guarded(self._get_streams))
        return app

    @web.middleware
    async def _first_request(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        if self._admission is not None:
            self._admission.has_asked(request.protocol)
        return await handler(request)

    def _is_meant(self, request: web.Request) -> bool:
        return self._host_names.know(request.headers.getall("Host", ()))

    def _guarded(self, handler: _Handler) -> _Handler:
        """The handler for those who ask by a name that this server is known by."""

        async def guard(request: web.Request) -> web.StreamResponse:
            if not self._is_meant(request):
                return answers.unknown_name(request.headers.get("Host", ""))
            return await handler(request)

        return guard

    async def _get_metrics(self, request: web.Request) -> web.Response:
        self._refresh()
        return answers.metrics(self._metrics.registry, request.headers.get("Accept", ""))

    async def _get_health(self, request: web.Request) -> web.Response:
        return self._condition(request, *self._health(), "healthy")

    async def _get_ready(self, request: web.Request) -> web.Response:
        return self._condition(request, *self._ready(), "ready")

    def _condition(
        self, request: web.Request, well: bool, reasons: list[str], name: str
    ) -> web.Response:
        # A probe by any name learns what it must know; reasons tell names and places.
        told = reasons if self._is_meant(request) else []
        return answers.condition(request.headers.get("Accept", ""), well, told, name)

    async def _get_status(self, request: web.Request) -> web.Response:
        return answers.json(self._status())

    async def _get_streams(self, request: web.Request) -> web.Response:
        return answers.streams(request.query, self._streams)

    async def _get_overview(self, request: web.Request) -> web.Response:
        return answers.json(self._overview())

    async def _get_page(self, request: web.Request) -> web.Response:
        return answers.page(self._page, request.headers.get("If-None-Match", ""))


async def _harden(request: web.Request, response: web.StreamResponse) -> None:
    """What a browser must never take for something else, or show within another page."""
    for name, value in SAFE_HEADERS.items():
        response.headers.setdefault(name, value)
