"""Connections between simulated clients and an agent: the agent's side is an asyncio transport.

As a Unix socket: what was sent before either side died can still be read by the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from hf_agent.ingest.connection import Connection
from hf_agent.ingest.peer import Peer
from simulation.kernel import Kernel, Process
from simulation.loop import SimLoop

__all__ = ["Link", "SimPeer"]


class _NoSocket:
    """Says nothing of its peer."""

    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes:
        raise OSError("not a socket")


class Link(asyncio.Transport):
    """One connection. `send` and `hang_up` are the client's side, the rest the agent's."""

    def __init__(
        self,
        kernel: Kernel,
        process: Process,
        loop: SimLoop,
        protocol: Connection,
        on_data: Callable[[bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        super().__init__()
        self._kernel = kernel
        self._process = process
        self._loop = loop
        self._protocol = protocol
        self._on_data = on_data
        self._on_end = on_end
        self._inbound = bytearray()
        self._outbound: deque[bytes | None] = deque()
        self._reading = True
        self._closing = False
        self._scheduled = False
        self._eof_given = False
        self.hung_up = False
        """Whether the client has closed."""
        process.on_death.append(self._agent_died)
        loop.call_soon_threadsafe(self._protocol.connection_made, self)

    # -- the client's side -----------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Put bytes on their way to the agent."""
        kernel = self._kernel

        def arrive() -> None:
            self._inbound += data
            self._schedule()

        # One at a time, in order: what is sent later cannot arrive earlier.
        self._arrives_at = max(getattr(self, "_arrives_at", 0.0), kernel.now) + (
            1e-6 + kernel.rng.random() * 1e-3
        )
        kernel.at(self._arrives_at, arrive)

    def hang_up(self) -> None:
        """The client closes."""

        def arrive() -> None:
            self.hung_up = True
            self._schedule()

        self._arrives_at = max(getattr(self, "_arrives_at", 0.0), self._kernel.now) + 1e-6
        self._kernel.at(self._arrives_at, arrive)

    # -- the agent's side ------------------------------------------------------------------

    def _schedule(self) -> None:
        if not (self._scheduled or self._process.dead or self._closing):
            self._scheduled = True
            self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if not self._reading or self._closing:
            return
        if self._inbound:
            room = self._protocol.get_buffer(-1)
            count = min(len(room), len(self._inbound))
            if self._kernel.rng.random() < 0.2:
                count = self._kernel.rng.randrange(1, count + 1)
            room[:count] = self._inbound[:count]
            del self._inbound[:count]
            self._protocol.buffer_updated(count)
            self._schedule()
        elif self.hung_up and not self._eof_given:
            self._eof_given = True
            if not self._protocol.eof_received():
                self.close()

    def _agent_died(self) -> None:
        self._outbound.append(None)
        self._kernel.after(self._kernel.rng.random() * 1e-3, self._reach_client)

    def _reach_client(self) -> None:
        data = self._outbound.popleft()
        if data is None:
            self._on_end()
        else:
            self._on_data(data)

    # -- asyncio.Transport -----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _NoSocket() if name == "socket" else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self._process.stop_if_dead()
        self._outbound.append(bytes(data))
        # In the order in which they were written: each arrival takes the oldest.
        self._kernel.after(self._kernel.rng.random() * 1e-3, self._reach_client)

    def write_eof(self) -> None:
        pass

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._outbound.append(None)
            self._kernel.after(self._kernel.rng.random() * 1e-3, self._reach_client)
            self._process.on_death.remove(self._agent_died)
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()


class SimPeer(Peer):
    """The client at the other end of a link."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._link = transport

    def is_gone(self) -> bool:
        assert isinstance(self._link, Link)
        return self._link.hung_up

    def write(self, data: bytes) -> None:
        if not self._link.is_closing():
            self._link.write(data)
