"""The HTTP server of a running agent, asked for JSON."""

from __future__ import annotations

import http.client
import socket
from typing import Any, Final

import msgspec

from hf_agent.cli.failures import CommandError
from hf_agent.config.listen_address import TcpAddress, UnixAddress, parse_listen_address

__all__ = ["AgentHttp"]

_MOST: Final = 16 << 20
"""Bytes of an answer; an agent's are far below."""


class AgentHttp:
    """One agent's server. Every request has a connection of its own."""

    def __init__(self, where: str, timeout: float) -> None:
        """`where` as in `http.listen`, or as a URL. Raises `ValueError` when it is neither."""
        address = parse_listen_address(where.removeprefix("http://").rstrip("/"))
        if address is None or address == TcpAddress("", 0):
            raise ValueError('not an address: write "host:port", or the path of a Unix socket')
        self._address = address
        self._timeout = timeout

    def __str__(self) -> str:
        return str(self._address)

    def get(self, path: str) -> Any:
        """The JSON at `path`. Raises `CommandError`."""
        address = self._address
        connection = (
            _UnixConnection(address.path, self._timeout)
            if isinstance(address, UnixAddress)
            # Without a host the agent listens on every interface, this host's own as well.
            else http.client.HTTPConnection(
                address.host or "localhost", address.port, timeout=self._timeout
            )
        )
        try:
            # By its own name, whatever it is reached by: this is no browser.
            connection.request("GET", path, headers={"Host": "localhost"})
            answer = connection.getresponse()
            body = answer.read(_MOST + 1)
        except TimeoutError as error:
            raise self._fault("does not answer in time", seconds=f"{self._timeout:g}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._fault(f"cannot be asked over HTTP: {_reason(error)}") from error
        finally:
            connection.close()
        if answer.status != 200 or len(body) > _MOST:
            raise self._fault("gives no such answer over HTTP", status=answer.status, path=path)
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise self._fault("is no agent: its answer is not JSON", path=path) from error

    def _fault(self, what: str, **more: object) -> CommandError:
        fields = "".join(f" {key}={value}" for key, value in more.items())
        return CommandError(f"the agent {what} http={self._address}{fields}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
