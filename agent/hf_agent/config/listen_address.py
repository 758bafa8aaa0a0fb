"""Where the HTTP server listens: `host:port`, or the path of a Unix socket."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["TcpAddress", "UnixAddress", "parse_listen_address"]

_TCP = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%a-z]+)\]|(?P<host>[^\[\]:/]*)):(?P<port>[0-9]{1,5})")
_SUN_PATH = 107


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A port of an interface. An empty host is every interface; port 0 is any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket."""

    path: str

    def __str__(self) -> str:
        return self.path


def parse_listen_address(text: str) -> TcpAddress | UnixAddress | None:
    """What `http.listen` says; None where it is empty: no server. Raises `ValueError`."""
    if not text:
        return None
    if "/" in text:
        if text.endswith("/") or len(text.encode()) > _SUN_PATH:
            raise ValueError(f"not the path of a Unix socket (at most {_SUN_PATH} bytes)")
        return UnixAddress(text)
    match = _TCP.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ValueError(
            'not an address: write "127.0.0.1:9477", "[::1]:9477", ":9477" for every interface, '
            'the path of a Unix socket (with a "/"), or "" for none'
        )
    return TcpAddress(match["v6"] or match["host"] or "", int(match["port"]))
