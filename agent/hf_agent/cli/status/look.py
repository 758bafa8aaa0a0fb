"""One look at a running agent, and where it comes from.

Over a socket of protocol `append` an agent tells sums. Its HTTP server tells more: the last
minutes, streams, errors. It is asked where the agent says it is, or where the command line says so;
without it there are the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from hf_agent.cli.agents import connect
from hf_agent.cli.failures import CommandError
from hf_agent.cli.status.http import AgentHttp
from hf_agent.client import ClientOptions

__all__ = ["MOST_STREAMS", "Agent", "Look", "ask_socket"]

MOST_STREAMS: Final = 50
"""Rows asked for: more than a screen has."""
_MISSING: Final = "no streams, rates and errors: "


@dataclass(frozen=True, slots=True)
class Look:
    """What the agent said at one moment, as plain JSON types."""

    status: dict[str, Any]
    overview: dict[str, Any] | None = None
    """None where only `status` is known."""
    streams: list[dict[str, Any]] = field(default_factory=list)
    """Those that have the most to flush, then those that were flushed last."""
    unknown: str = ""
    """Why there is no more than `status`."""


class Agent:
    """An agent that can be looked at again and again."""

    def __init__(self, socket: str | None, http: str | None, timeout: float) -> None:
        """One of `socket` and `http` is given; `timeout` in seconds is for each request.

        Raises `ValueError` when `http` is no address.
        """
        self._socket = socket
        self._http = AgentHttp(http, timeout) if http else None
        self._timeout = timeout

    def sums(self) -> dict[str, Any]:
        """What the agent tells of itself as a whole. Raises as `look` does."""
        if self._socket is not None:
            return ask_socket(self._socket, self._timeout)
        assert self._http is not None
        status: dict[str, Any] = self._http.get("/api/status")
        return status

    def look(self) -> Look:
        """Ask. Raises `CommandError` and `ClientError` when there is no answer."""
        if self._http is not None:
            try:
                return _ask_http(self._http)
            except CommandError as error:
                if self._socket is None:
                    raise
                return Look(ask_socket(self._socket, self._timeout), unknown=f"{_MISSING}{error}")
        assert self._socket is not None
        status = ask_socket(self._socket, self._timeout)
        where = status.get("http", "")
        if not where:
            return Look(status, unknown=f"{_MISSING}the agent has no HTTP server")
        http = AgentHttp(where, self._timeout)
        try:
            look = _ask_http(http)
        except CommandError as error:
            # If it has ended between two questions, there is no answer, instead of less of one.
            return Look(ask_socket(self._socket, self._timeout), unknown=f"{_MISSING}{error}")
        if _identity(look.status) != _identity(status):
            # As from outside the container in which the agent has this address.
            return Look(status, unknown=f"{_MISSING}another agent is at http={http}")
        return look


def ask_socket(socket: str, timeout: float) -> dict[str, Any]:
    """The status that the agent tells over its socket. Raises `CommandError`, `ClientError`."""
    with connect(socket, options=ClientOptions(reconnect_timeout=timeout)) as client:
        try:
            return client.status(timeout)
        except TimeoutError as error:
            client.abort()
            raise CommandError(
                f"the agent does not answer; look at its log socket={socket} seconds={timeout:g}"
            ) from error


def _ask_http(http: AgentHttp) -> Look:
    overview = http.get("/api/overview")
    if not isinstance(overview, dict) or not isinstance(overview.get("status"), dict):
        raise CommandError(f"no agent answers there http={http}")
    rows: dict[str, dict[str, Any]] = {}
    for sort, wanted in _WANTED.items():
        answer = http.get(f"/api/streams?sort=-{sort}&limit={MOST_STREAMS}")
        for row in answer["streams"]:
            if wanted(row):
                rows.setdefault(row["stream"], row)
    return Look(overview["status"], overview, list(rows.values())[:MOST_STREAMS])


_WANTED: Final[dict[str, Callable[[dict[str, Any]], bool]]] = {
    "unflushed_bytes": lambda row: row["unflushed_bytes"] > 0,
    "last_flush_timestamp": lambda row: True,
}
"""Orders in which streams are asked for, and which rows of each count."""


def _identity(status: dict[str, Any]) -> tuple[object, ...]:
    return status.get("node"), status.get("started_timestamp")
