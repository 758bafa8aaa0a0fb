"""Whether the name by which a client asks is one that this server is known by.

A browser on this host, or behind a forwarded port, runs the scripts of any page. One whose name
first leads to the page's own server, and then to this one, may read answers as its own: DNS
rebinding. The name gives it away. An address cannot lead elsewhere, and nobody else can give an
address to `localhost`, or to the names that an operator has set.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["ANY_NAME", "HostNames"]

ANY_NAME: Final = "*"
_FIELD = re.compile(r"(?P<host>\[[^\[\]]*\]|[^:\[\]]*)(?::[0-9]*)?")


class HostNames:
    """The names of one server."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names` beside addresses and `localhost`; `ANY_NAME` stands for every one."""
        self._names = frozenset(map(_plain, names))

    def know(self, fields: Sequence[str]) -> bool:
        """Whether a request with these `Host` headers means this server.

        One without any is not a browser's.
        """
        return ANY_NAME in self._names or all(map(self._knows, fields))

    def _knows(self, field: str) -> bool:
        match = _FIELD.fullmatch(field.strip())
        if match is None:
            return False
        name = _plain(match["host"])
        if name == "localhost" or name.endswith(".localhost") or name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
