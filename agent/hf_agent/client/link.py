"""One connection of an `AsyncClient`, as an asyncio protocol."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import cast

__all__ = ["Link"]

_HIGH_WATER = 512 << 10


class Link(asyncio.Protocol):
    """Passes bytes on and tells of its end once, unless it was ended from here."""

    def __init__(
        self,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[str], None],
        on_writable: Callable[[], None],
    ) -> None:
        self._on_data = on_data
        self._on_lost = on_lost
        self._on_writable = on_writable
        self._transport: asyncio.Transport | None = None
        self._changed = asyncio.Event()
        self._gone = asyncio.Event()
        self._ended = False
        self.may_write = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self.may_write = True

    def data_received(self, data: bytes) -> None:
        if not self._ended:
            self._on_data(data)
            self._changed.set()

    def eof_received(self) -> bool:
        self._end("agent closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.may_write = False
        self._gone.set()
        self._end("agent closed the connection" if exc is None else str(exc))

    def pause_writing(self) -> None:
        self.may_write = False

    def resume_writing(self) -> None:
        if not self._ended:
            self.may_write = True
            self._on_writable()

    def write(self, pieces: list[bytes]) -> None:
        """Send pieces one behind the other."""
        if self._transport is not None and not self._ended:
            self._transport.writelines(pieces)

    async def something(self) -> None:
        """Return when something has come, or the link has ended."""
        self._changed.clear()
        if not self._ended:
            await self._changed.wait()

    def disinherit(self) -> None:
        """In a forked child: let its copy of the connection be nothing any more.

        The number stays taken, so that nobody closes what comes to have it later.
        """
        transport = self._transport
        if transport is not None and not transport.is_closing():
            nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(nothing, transport.get_extra_info("socket").fileno(), inheritable=False)
            os.close(nothing)

    def abort(self) -> None:
        """End the connection; `on_lost` is not called for it."""
        self._ended = True
        self.may_write = False
        self._changed.set()
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """End the connection once what was written is sent."""
        self._ended = True
        self.may_write = False
        if self._transport is not None:
            self._transport.close()
            await self._gone.wait()

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self.may_write = False
            self._on_lost(reason)
            self._changed.set()
