"""Why there is no agent at a path, and what to do: for the one error most people meet first."""

from __future__ import annotations

import grp
import os
import stat

from hf_agent.client.errors import ConnectionLost

__all__ = ["NO_GREETING", "unreachable"]

NO_GREETING = "agent does not greet"
"""The reason of a connection over which no greeting came: most likely of another protocol."""


def unreachable(path: str, reason: str) -> ConnectionLost:
    """The error of a first connection to the socket `path` that failed for `reason`."""
    return ConnectionLost(f"cannot reach the agent: {reason}; {_advice(path, reason)} path={path}")


def _advice(path: str, reason: str) -> str:
    if reason == NO_GREETING:
        return "is this a socket of protocol append?"
    try:
        found = os.stat(path)  # noqa: PTH116 - abstract sockets are no paths
    except PermissionError:
        return "this user may not look into its directory"
    except (OSError, ValueError):
        return "is it running?"
    if stat.S_ISDIR(found.st_mode):
        return "that is a directory: name the socket in it"
    if not stat.S_ISSOCK(found.st_mode):
        return "that is not a socket"
    if not os.access(path, os.W_OK):
        return f"this user may not write to the socket: join group {_group(found.st_gid)}"
    return "is it running?"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
