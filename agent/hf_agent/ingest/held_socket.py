"""A stream socket whose last byte stays in the kernel until what was read is durable.

When a process dies, the kernel closes its sockets, and a peer that waits for end of file sees
just that: a killed receiver looks like one that finished. There is one exception: when bytes that
the dead process had not read are left in its receive queue, the peer gets ECONNRESET instead.
So the newest byte is looked at (MSG_PEEK) and left in the queue. End of file then tells the peer
that the agent closed the connection by its own will, whatever happened to the agent.

Works on Unix stream sockets of Linux. Does not wait, and does not solve when to read: see
`edge_poller`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios

__all__ = ["HeldSocket"]

_INT = struct.Struct("i")


class HeldSocket:
    """Reads a connected, non-blocking Unix stream socket, one byte behind."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._held = False
        self._skipped = bytearray(1)

    def fileno(self) -> int:
        """The descriptor, for a poller."""
        return self._socket.fileno()

    def available(self) -> int:
        """Bytes that have arrived and were not given out yet."""
        queued: int = _INT.unpack(
            fcntl.ioctl(self._socket.fileno(), termios.FIONREAD, bytes(_INT.size))
        )[0]
        return queued - self._held

    def read_into(self, buffer: memoryview) -> int:
        """Fill `buffer` with at most `available()` bytes; returns how many were placed.

        `buffer` must not be longer than what is available, and not empty. Raises OSError.
        """
        wanted = len(buffer)
        placed = 0
        if self._held:
            # The byte that was held is given out already: it is taken off the queue and skipped.
            if wanted == 1:
                self._socket.recv_into(self._skipped)
                self._held = False
            else:
                count = self._socket.recvmsg_into([self._skipped, buffer[: wanted - 1]])[0]
                self._held = False
                placed = count - 1
        elif wanted > 1:
            placed = self._socket.recv_into(buffer[: wanted - 1])
        if placed < wanted - 1:
            # The kernel gave less than it had, so bytes are left in the queue by themselves.
            return placed
        self._socket.recv_into(buffer[placed:wanted], 1, socket.MSG_PEEK)
        self._held = True
        return wanted

    def close(self, *, acknowledge: bool) -> None:
        """Close; the peer sees end of file with `acknowledge`, else a reset if it sent anything."""
        if acknowledge and self._held:
            self._socket.recv_into(self._skipped)
            self._held = False
        self._socket.close()
