"""The event loop, in a thread of its own, on which blocking calls have their work done."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from functools import lru_cache
from typing import Any, Protocol, TypeVar

__all__ = ["LoopThread", "Runner", "loop_thread"]

_Result = TypeVar("_Result")

_making = threading.Lock()


class Runner(Protocol):
    """Has asynchronous work done for callers that wait for it."""

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """What `work` returns, or raises."""
        ...


class LoopThread:
    """A daemon thread that runs an event loop until the process ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="hyperfile", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Have the loop do `work`, and wait for it; an interrupt cancels it.

        Raises what it raises, and `RuntimeError` when called from the loop itself.
        """
        if sys.is_finalizing() or not self._thread.is_alive():
            work.close()
            raise RuntimeError("the interpreter is shutting down; close files before that")
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError(
                "a blocking call on the loop that would do its work; use the asynchronous API there"
            )
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


def loop_thread() -> LoopThread:
    """The loop of this process; a forked child gets one of its own."""
    with _making:
        return _of_process(os.getpid())


@lru_cache(maxsize=1)
def _of_process(pid: int) -> LoopThread:
    return LoopThread()
