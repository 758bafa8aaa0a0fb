"""An asyncio transport over a `HeldSocket`: its end of file acknowledges, whatever dies.

It drives the same `BufferedProtocol` methods as the loop's own transport. Only what receiving
protocols need is there: answers are one short last word, written once, and never wait.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from hf_agent.ingest.edge_poller import EdgePoller
from hf_agent.ingest.held_socket import HeldSocket

__all__ = ["HeldTransport"]


class HeldTransport(asyncio.Transport):
    """One connected Unix stream socket. Lives on the loop's thread."""

    def __init__(
        self, connection: socket.socket, protocol: asyncio.BufferedProtocol, poller: EdgePoller
    ) -> None:
        super().__init__(extra={"socket": connection})
        connection.setblocking(False)
        self._connection = connection
        self._held = HeldSocket(connection)
        self._protocol = protocol
        self._poller = poller
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._scheduled = False
        self._ended = False
        self._eof_told = False
        self._said_something = False
        self._closing = False
        protocol.connection_made(self)
        if not self._closing:
            poller.add(self._held.fileno(), self._on_event)

    # -- reading ---------------------------------------------------------------------------

    def is_reading(self) -> bool:
        """Whether bytes are passed on as they come."""
        return not (self._paused or self._closing)

    def pause_reading(self) -> None:
        """Leave bytes where they are: the peer's writes block when its queue is full."""
        self._paused = True

    def resume_reading(self) -> None:
        """Pass bytes on again."""
        self._paused = False
        self._schedule()

    def _on_event(self, ended: bool) -> None:
        self._ended = self._ended or ended
        # A callback of its own for each read, so that connections take turns.
        self._schedule()

    def _schedule(self) -> None:
        if not (self._scheduled or self._paused or self._closing or self._eof_told):
            self._scheduled = True
            self._loop.call_soon(self._read)

    def _read(self) -> None:
        self._scheduled = False
        if self._paused or self._closing or self._eof_told:
            return
        try:
            # Asked before what is available: bytes that come in between are not taken for none.
            ended = self._ended
            available = self._held.available()
            if available:
                room = self._protocol.get_buffer(available)
                assert isinstance(room, memoryview)
                count = self._held.read_into(room[: min(len(room), available)])
                self._protocol.buffer_updated(count)
                self._schedule()
            elif ended:
                self._eof_told = True
                if not self._protocol.eof_received():
                    self.close()
        except OSError as error:
            self._end(acknowledge=False, error=error)

    # -- writing ---------------------------------------------------------------------------

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered: of no effect."""

    def get_write_buffer_size(self) -> int:
        """Nothing is buffered."""
        return 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a last word, as far as it fits; the connection does not count as acknowledged."""
        self._said_something = True
        try:
            self._connection.send(data)
        except OSError:
            # The peer is gone or does not read: the reset that follows says enough.
            return

    # -- the end ---------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`socket` only."""
        return self._connection if name == "socket" else default

    def is_closing(self) -> bool:
        """Whether `close` or `abort` was called."""
        return self._closing

    def close(self) -> None:
        """End the connection: with end of file if all was read and nothing else was said."""
        self._end(acknowledge=self._eof_told and not self._said_something, error=None)

    def abort(self) -> None:
        """End the connection without an acknowledgement."""
        self._end(acknowledge=False, error=None)

    def _end(self, *, acknowledge: bool, error: OSError | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._poller.remove(self._held.fileno())
        self._held.close(acknowledge=acknowledge)
        self._loop.call_soon(self._protocol.connection_lost, error)
