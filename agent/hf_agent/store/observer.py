"""One callback per store request, for whoever keeps metrics."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import TypeAlias

from hf_agent.store.base import StoreError

__all__ = ["Observer", "Request", "coded", "limited"]

Observer: TypeAlias = Callable[[str, str, float], None]
"""Called with the operation, a code ("ok", or why it failed) and the seconds it took."""


_MAX_CODES = 100
"""Different codes that an observer hears of one store; a server may think out any number."""


def limited(observer: Observer | None) -> Observer | None:
    """`observer`, told "other" for every code after the first hundred different ones."""
    if observer is None:
        return None
    heard: set[str] = set()

    def observe(operation: str, code: str, seconds: float) -> None:
        if code not in heard:
            if len(heard) < _MAX_CODES:
                heard.add(code)
            else:
                code = "other"
        observer(operation, code, seconds)

    return observe


def coded(error: StoreError, code: str) -> StoreError:
    """Give `error` the short code that an observer is told; returns the error."""
    error.code = code
    return error


class Request:
    """Context of one request: tells the observer how it ended and how long it took."""

    __slots__ = ("_begin", "_observer", "_operation")

    def __init__(self, observer: Observer | None, operation: str) -> None:
        self._observer = observer
        self._operation = operation
        self._begin = 0.0

    def __enter__(self) -> None:
        self._begin = perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._observer is None:
            return
        if error is None:
            code = "ok"
        elif isinstance(error, StoreError):
            code = error.code or type(error).__name__
        elif isinstance(error, CancelledError):
            code = "cancelled"
        else:
            code = type(error).__name__
        self._observer(self._operation, code, perf_counter() - self._begin)
