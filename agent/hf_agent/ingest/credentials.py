"""Who is at the other end of a Unix socket, as the kernel knows it.

Of a connection, these are the credentials that the peer had when it connected (or made the pair):
what it does with its user id later changes nothing. Of a datagram, they are those of its sender as
it sent it. Both are in the agent's user namespace: a user that it does not map shows as the
overflow id (65534).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

__all__ = [
    "NOBODY",
    "PASSED_BYTES",
    "Credentials",
    "pass_credentials",
    "passed_credentials",
    "peer_credentials",
]

_UCRED: Final = struct.Struct("iII")
_SO_PEERGROUPS: Final = 59
"""Linux 4.13 and newer; the `socket` module does not name it."""
_GID: Final = struct.Struct("I")
_MOST_GROUPS: Final = 256
"""`socket.getsockopt` gives at most 1,024 bytes."""

PASSED_BYTES: Final = socket.CMSG_SPACE(_UCRED.size)
"""Of ancillary data to receive with a datagram: with no room for descriptors that a sender sends
along, which the kernel then closes."""


class Credentials(NamedTuple):
    """A peer's process and user."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    """Supplementary groups; empty where the kernel does not tell them, and if it has over 256."""


NOBODY: Final = Credentials(0, 0xFFFFFFFF, 0xFFFFFFFF, frozenset())
"""Of a peer of which the kernel says nothing: no list admits it."""


class _Socket(Protocol):
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def peer_credentials(connection: _Socket) -> Credentials:
    """The credentials of a connected Unix socket's peer; `NOBODY` if there are none."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    except OSError:
        return NOBODY
    pid, uid, gid = _UCRED.unpack(raw)
    return Credentials(pid, uid, gid, _groups(connection))


def pass_credentials(receiving: socket.socket) -> None:
    """Have every datagram that is sent from now on say whose it is."""
    receiving.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def passed_credentials(ancillary: Iterable[tuple[int, int, bytes]]) -> Credentials:
    """The sender of a datagram, from what came with it; `NOBODY` if that says nothing.

    Real ids, unlike those of a connection, and no supplementary groups. A sender may name itself
    by any of its own ids; only root may name somebody else.
    """
    for level, kind, data in ancillary:
        whole = len(data) == _UCRED.size
        if whole and level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid, uid, gid = _UCRED.unpack(data)
            return Credentials(pid, uid, gid, frozenset())
    return NOBODY


def _groups(connection: _Socket) -> frozenset[int]:
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_GROUPS * _GID.size)
    except OSError:
        # An older kernel, or more groups than Python has room for: the group itself must do.
        return frozenset()
    return frozenset(gid for (gid,) in _GID.iter_unpack(raw))
