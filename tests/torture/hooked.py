"""Objects in front of a disk or a store that hand every call to a hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Hook", "Hooked", "HookedStore"]


class Hook(Protocol):
    """Decides what becomes of a call."""

    def around(self, place: str, name: str, call: Callable[..., Any], args: Any) -> Any:
        """Make the call (or not) and return its answer, or raise.

        `place` is "wal", "disk" (the directory store's) or "store".
        """
        ...


class Hooked:
    """Any object of blocking calls: the disk of the WAL, or that of the directory store."""

    def __init__(self, place: str, hook: Hook, inner: object) -> None:
        self._place = place
        self._inner = inner
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if not callable(call):
            return call

        def hooked(*args: Any, **named: Any) -> Any:
            return self._hook.around(self._place, name, lambda *args: call(*args, **named), args)

        setattr(self, name, hooked)  # found there the next time
        return hooked


class HookedStore:
    """A store of which `hook` is told before and after each awaited call."""

    def __init__(self, hook: Hook, inner: object) -> None:
        self._inner = inner
        self._hook = hook

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        if not inspect.iscoroutinefunction(call):
            return call

        async def hooked(*args: Any, **named: Any) -> Any:
            self._hook.around("store", f"{name}.begin", lambda: None, ())
            answer = await call(*args, **named)
            self._hook.around("store", f"{name}.end", lambda: None, ())
            return answer

        return hooked
