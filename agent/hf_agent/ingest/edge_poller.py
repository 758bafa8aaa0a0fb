"""Edge-triggered readiness of many sockets on an event loop.

A socket that always keeps a byte in its queue (see `held_socket`) is readable all the time for a
level-triggered loop, which would spin. Here an edge-triggered epoll set tells of new bytes only;
the loop watches the set's own descriptor.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable

__all__ = ["EdgePoller"]

_EVENTS_A_TURN = 64


class EdgePoller:
    """Calls back when something new happened to a socket: `callback(closing)`.

    `closing` says that the peer has shut down its writing side, or is gone.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[bool], None]] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, descriptor: int, callback: Callable[[bool], None]) -> None:
        """Watch a descriptor; what it already has to say is told on the loop's next turn."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)

    def remove(self, descriptor: int) -> None:
        """Stop watching; to be called before the descriptor is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def close(self) -> None:
        """Give the set back. Idempotent."""
        if not self._epoll.closed:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
        self._callbacks.clear()

    def _ready(self) -> None:
        for descriptor, events in self._epoll.poll(0, _EVENTS_A_TURN):
            callback = self._callbacks.get(descriptor)
            if callback is not None:
                callback(bool(events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR)))
