"""An object's bytes from the first to the last, through ranged reads of bounded size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import TracebackType
from typing import Self

from hf_agent.hyperfile.concurrency import map_ahead
from hf_agent.hyperfile.errors import FormatError
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["ObjectBytes"]

_WINDOW_BYTES = 1 << 20
_WINDOWS_AHEAD = 1


class ObjectBytes:
    """Gives out an object in order; an asynchronous context manager.

    Holds two windows of 1 MiB. Raises `FormatError` when the object is gone or ends early, and the
    store's errors.
    """

    def __init__(self, store: Store, key: str, size: int, on_bytes: Callable[[int], None]) -> None:
        self._store = store
        self._key = key
        self._size = size
        self._on_bytes = on_bytes
        self._windows: AsyncGenerator[bytes, None] = map_ahead(
            self._read, range(0, size, _WINDOW_BYTES), ahead=_WINDOWS_AHEAD
        )
        self._window = memoryview(b"")
        self.position = 0
        """Of the next byte."""

    async def take(self, nbytes: int) -> bytes:
        """The next `nbytes` bytes, in one piece."""
        pieces = [piece async for piece in self.pieces(nbytes)]
        return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self, nbytes: int) -> AsyncIterator[memoryview]:
        """The next `nbytes` bytes, as they come."""
        while nbytes > 0:
            if not self._window:
                self._window = memoryview(await anext(self._windows))
            piece, self._window = self._window[:nbytes], self._window[nbytes:]
            nbytes -= len(piece)
            self.position += len(piece)
            yield piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._windows.aclose()

    async def _read(self, start: int) -> bytes:
        end = min(start + _WINDOW_BYTES, self._size)
        try:
            data = (await self._store.get(self._key, start=start, end=end)).data
        except StoreNotFound as error:
            rule = "an object has gone while it was read"
            raise FormatError(rule, object=self._key, offset=start) from error
        if len(data) != end - start:
            rule = f"the object ends {end - start - len(data)} bytes early"
            raise FormatError(rule, object=self._key, offset=start)
        self._on_bytes(len(data))
        return data
