"""Listening sockets of the HTTP server: TCP, or Unix."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from hf_agent.config.listen_address import TcpAddress, UnixAddress
from hf_agent.ingest.unix_socket import ListenerError, bind_unix_socket, unlink_if_ours
from hf_agent.web.errors import WebServerError, listen_error

__all__ = ["OpenSockets", "open_sockets"]

_BACKLOG = 64
_MODE = 0o660
"""Of a Unix socket: whoever shares the agent's group may ask."""


@dataclass(frozen=True, slots=True)
class OpenSockets:
    """Bound and listening sockets of one address."""

    sockets: tuple[socket.socket, ...]
    path: str = ""
    """Of a Unix socket."""
    place: tuple[int, int] = (0, 0)
    """Device and inode of its file."""

    def unlink(self) -> None:
        """Remove the file of a Unix socket, unless it is somebody else's by now."""
        if self.path:
            unlink_if_ours(self.path, self.place)

    def close(self) -> None:
        """Give everything back that was opened."""
        self.unlink()
        for each in self.sockets:
            each.close()


def open_sockets(address: TcpAddress | UnixAddress) -> OpenSockets:
    """Listen on `address`. Raises `WebServerError`."""
    try:
        if isinstance(address, UnixAddress):
            return _open_unix(address.path)
        return OpenSockets(tuple(_open_tcp(address)))
    except ListenerError as error:
        raise WebServerError(f"cannot serve HTTP: {error}") from error
    except OSError as error:
        raise listen_error(address, error) from error


def _open_unix(path: str) -> OpenSockets:
    bound, place = bind_unix_socket(path, mode=_MODE, owner="", group="")
    bound.listen(_BACKLOG)
    return OpenSockets((bound,), path, place)


def _open_tcp(address: TcpAddress) -> list[socket.socket]:
    if not address.host:
        # One socket for both families; where the kernel has no IPv6, IPv4 alone.
        if socket.has_dualstack_ipv6():
            return [
                socket.create_server(
                    ("", address.port),
                    family=socket.AF_INET6,
                    dualstack_ipv6=True,
                    backlog=_BACKLOG,
                )
            ]
        return [socket.create_server(("", address.port), backlog=_BACKLOG)]
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise WebServerError(
            f"cannot serve HTTP: {str(error.strerror).lower()}; change http.listen listen={address}"
        ) from error
    opened: list[socket.socket] = []
    try:
        for family, _, _, _, place in dict.fromkeys(found):
            opened.append(socket.create_server(place[:2], family=family, backlog=_BACKLOG))
    except OSError:
        for each in opened:
            each.close()
        raise
    return opened
