"""Threads, and the locks at which they wait for long, as an argument: a simulation schedules both.

Locks that are held for a few bytecodes only, and never over a call of the disk, are not among them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

__all__ = ["Lock", "OsThreads", "Threads"]


class Lock(Protocol):
    """As `threading.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool: ...

    def release(self) -> None: ...

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Threads(Protocol):
    """Where threads and their locks come from."""

    def lock(self) -> Lock: ...

    def start(self, run: Callable[[], None], name: str) -> Callable[[], None]:
        """Begin to call `run` on a thread of its own; what is returned waits for its end."""
        ...


class OsThreads:
    """The operating system's. The threads are daemons: they keep no process from its end."""

    def lock(self) -> Lock:
        return threading.Lock()

    def start(self, run: Callable[[], None], name: str) -> Callable[[], None]:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread.join
