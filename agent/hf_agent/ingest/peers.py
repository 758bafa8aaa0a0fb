"""Clients as people know them: a process and a user on a socket."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

__all__ = ["Peer", "command_of"]


class Peer(NamedTuple):
    """Who is connected to what."""

    socket: str
    protocol: str
    pid: int
    """0 where the kernel does not tell it, as for a process outside the agent's container."""
    uid: int


def command_of(pid: int) -> str:
    """The name of a process; empty when it is gone, or not to be seen from here.

    A pid may have gone to another process since the connection was made: good for a hint only.
    """
    if pid <= 0:
        return ""
    try:
        return Path(f"/proc/{pid}/comm").read_bytes().decode(errors="replace").rstrip("\n")
    except OSError:
        return ""
