"""Accepts connections of a listening socket, and makes each one a transport.

`append` connections get the loop's own transports. `lines` connections get transports whose end
of file acknowledges (`held_transport`); the loops have none of these.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine

import structlog

from hf_agent.clock import Clock
from hf_agent.ingest.connection import Connection
from hf_agent.ingest.edge_poller import EdgePoller
from hf_agent.ingest.held_transport import HeldTransport

__all__ = ["Acceptor", "HeldAcceptor"]

_log = structlog.get_logger(__name__)

_ACCEPTS_A_TURN = 64
_PAUSE = 1.0
"""Seconds without accepting when the process has no descriptor left."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts from `listening` once it is started; `stop` closes it."""

    def __init__(
        self, listening: socket.socket, factory: Callable[[], Connection], clock: Clock
    ) -> None:
        self._listening = listening
        self._factory = factory
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, backlog: int) -> None:
        """Listen."""
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept nothing more; connections stay. Idempotent."""
        if self._listening.fileno() >= 0:
            self._loop.remove_reader(self._listening.fileno())
            self._listening.close()

    async def close(self) -> None:
        """After the last connection: end what still runs."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def connect(self, connection: socket.socket) -> None:
        """Give the connection a transport and a protocol."""
        self._spawn(self._connect(connection))

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, connection)
        except OSError as error:
            # The peer left between connecting and now.
            connection.close()
            _log.info("connection lost as it began", reason=str(error))
        except asyncio.CancelledError:
            connection.close()
            raise

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                _log.error(
                    "cannot accept a connection: raise the limit of open files",
                    reason=str(error),
                )
                self._loop.remove_reader(self._listening.fileno())
                self._spawn(self._resume())
                return
            connection.setblocking(False)
            self.connect(connection)

    async def _resume(self) -> None:
        await self._clock.sleep(_PAUSE)
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class HeldAcceptor(Acceptor):
    """Gives connections transports over `HeldSocket`s."""

    def __init__(
        self, listening: socket.socket, factory: Callable[[], Connection], clock: Clock
    ) -> None:
        super().__init__(listening, factory, clock)
        self._poller = EdgePoller()

    def connect(self, connection: socket.socket) -> None:
        HeldTransport(connection, self._factory(), self._poller)

    async def close(self) -> None:
        await super().close()
        self._poller.close()
