"""The agent that runs here already, as a check of its configuration meets it.

It is the process that holds the lock of the WAL, if that listens as well where the configuration
says: not another program, nor an agent of another configuration. What it listens on stands in
`/proc`, which only its own user and root may read; to anybody else it is just another process.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from hf_agent.config.listen_address import TcpAddress, UnixAddress

__all__ = ["RunningAgent"]

_PROC: Final = Path("/proc")
_LISTENING: Final = "0A"
"""`TCP_LISTEN` in `/proc/net/tcp`."""
_ANY: Final = frozenset({"0.0.0.0", "::"})


@dataclass(frozen=True, slots=True)
class RunningAgent:
    """A process, and the sockets that it has open."""

    pid: int
    paths: frozenset[str]
    """Of Unix sockets."""
    ports: frozenset[tuple[str, int]]
    """Addresses and TCP ports that it listens on."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """What the process `pid` has open; nothing where that cannot be seen."""
        try:
            sockets = _sockets(pid)
            paths, ports = _unix_paths(pid, sockets), _tcp_ports(pid, sockets)
        except OSError:  # gone, or somebody else's
            paths, ports = frozenset(), frozenset()
        return cls(pid, paths, ports)

    def listens_on(self, address: TcpAddress | UnixAddress) -> bool:
        """Whether it has all of `address`."""
        if isinstance(address, UnixAddress):
            return address.path in self.paths
        if not address.host:
            return any((each, address.port) in self.ports for each in _ANY)
        wanted = _resolve(address)
        return bool(wanted) and wanted <= self.ports


def _sockets(pid: int) -> frozenset[str]:
    """Numbers of the process's sockets."""
    found = []
    for entry in (_PROC / str(pid) / "fd").iterdir():
        try:
            target = str(entry.readlink())
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            found.append(target[len("socket:[") : -1])
    return frozenset(found)


def _unix_paths(pid: int, sockets: frozenset[str]) -> frozenset[str]:
    # Num RefCount Protocol Flags Type St Inode Path
    rows = (line.split(maxsplit=7) for line in _table(pid, "unix"))
    return frozenset(row[7] for row in rows if len(row) == 8 and row[6] in sockets)


def _tcp_ports(pid: int, sockets: frozenset[str]) -> frozenset[tuple[str, int]]:
    # sl local_address rem_address st tx_queue:rx_queue tr:when retrnsmt uid timeout inode
    rows = [line.split() for name in ("tcp", "tcp6") for line in _table(pid, name)]
    return frozenset(_address(row[1]) for row in rows if row[3] == _LISTENING and row[9] in sockets)


def _table(pid: int, name: str) -> list[str]:
    try:
        # The process's own: it may live in another network namespace.
        text = (_PROC / str(pid) / "net" / name).read_text(errors="replace")
    except FileNotFoundError:  # a kernel without IPv6
        return []
    return text.splitlines()[1:]


def _address(text: str) -> tuple[str, int]:
    """`0100007F:2505`: words of four bytes in the order of this machine, and the port."""
    digits, _, port = text.partition(":")
    words = bytes.fromhex(digits)
    if sys.byteorder == "little":
        words = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
    return str(ipaddress.ip_address(words)), int(port, 16)


def _resolve(address: TcpAddress) -> frozenset[tuple[str, int]]:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset()
    return frozenset((str(place[0]), address.port) for *_, place in found)
