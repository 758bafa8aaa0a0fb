"""The client at the other end of a connection: what is said to it, and whether it still listens."""

from __future__ import annotations

import asyncio
import os
import select

__all__ = ["Peer"]


class Peer:
    """Writes to a transport. Lives on the event loop's thread, as long as the transport."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._fd: int = transport.get_extra_info("socket").fileno()
        self._hangup = select.poll()
        self._hangup.register(self._fd, 0)

    def is_gone(self) -> bool:
        """Whether the client has closed, rather than only ended its writing side."""
        return bool(self._hangup.poll(0))

    def write(self, data: bytes) -> None:
        """Send now what the socket takes, and the rest through the transport.

        A transport sends when the loop has nothing else to do, which is late for a client that
        waits for this answer before it goes on. And it ends the connection when the client has
        closed: then what the client sent before that could not be read any more.
        """
        transport = self._transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size():
            if self.is_gone():
                return
        else:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except (BrokenPipeError, ConnectionResetError):
                return
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)
