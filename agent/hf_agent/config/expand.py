"""`${VAR}` and `${VAR:-default}` in strings."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

__all__ = ["expand", "host_name"]

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})?")


def host_name() -> str:
    """The host's own name."""
    return socket.gethostname()


def expand(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its references to variables replaced.

    `${VAR:-default}` takes the default where the variable is unset or empty; `$${` stands for
    `${` itself; `HOSTNAME` is the host's name where it is not set. Raises `ValueError` that names
    an undefined variable, or for a `${` that no reference follows.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match[1], match[2]
        if name is None:
            raise ValueError("'${' begins no variable: write ${NAME}, ${NAME:-default}, or $${")
        value = environment.get(name)
        if value is None and name == "HOSTNAME":
            value = host_name()
        if not value and default is not None:
            return str(default)
        if value is None:
            raise ValueError(
                f"environment variable {name} is not set: "
                f"set it, or give a default as ${{{name}:-default}}"
            )
        return value

    return _REFERENCE.sub(replace, text)
