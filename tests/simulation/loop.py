"""An event loop of a simulated process: asyncio's contract on the kernel's time.

Callbacks run in the order in which they were registered, as asyncio promises and code relies on;
there is no legal permutation of those. What the seed permutes is what may differ in reality: when
answers, timers, bytes and words from other threads arrive, how long a turn takes, and what other
threads and processes do between two turns.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from simulation.kernel import Kernel, Killed, Process

__all__ = ["SimClock", "SimLoop"]

_T = TypeVar("_T")
_BUSY_TURNS = 2000
"""Turns in a row after which a loop that never waits is taken to spin."""
_TURN = 2e-4
"""Seconds that a turn of the loop takes at most."""


class _Handle(asyncio.TimerHandle):
    """A callback that waits for its turn, or its time."""

    __slots__ = ("callback", "run_in")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[object, ...],
        loop: SimLoop,
        context: contextvars.Context | None,
    ) -> None:
        self.callback: Callable[..., object] = callback
        self.run_in = context if context is not None else contextvars.copy_context()
        super().__init__(when, callback, args, loop, self.run_in)

    def cancel(self) -> None:
        if not self._cancelled:
            self._cancelled = True
            self.callback = _nothing
            self._args = ()


def _nothing() -> None:
    pass


class SimLoop(asyncio.AbstractEventLoop):
    """One loop on one thread of `process`, which is started by `begin`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._kernel: Kernel = process.kernel
        self._ready: deque[_Handle] = deque()
        self._timers: list[tuple[float, int, _Handle]] = []
        self._sequence = 0
        self._generation = 0
        self._parked = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = process.spawn(self._run, "loop")

    @classmethod
    def of(cls, process: Process) -> SimLoop:
        """The loop of a process. What a simulated process has no use for, it does not implement."""
        return cls(process)

    def begin(self, work: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Run a coroutine as the process's main one."""

        async def main() -> None:
            try:
                await work()
            except Exception as error:
                self._kernel.fail(f"{self._process.name} ended: {error!r}", error)

        self.call_soon_threadsafe(lambda: self.create_task(main(), name="main"))

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio._set_running_loop(self)
        turns = 0
        kernel, ready, timers = self._kernel, self._ready, self._timers
        while True:
            while timers and timers[0][0] <= kernel.now:
                handle = heapq.heappop(timers)[2]
                if not handle._cancelled:
                    ready.append(handle)
            if not ready:
                turns = 0
                self._park()
                continue
            turns += 1
            if turns > _BUSY_TURNS:
                kernel.fail(f"{self._process.name} spins: it has not waited for anything")
            for _ in range(len(ready)):
                handle = ready.popleft()
                if not handle._cancelled:
                    self._call(handle)
            kernel.block(kernel.rng.random() * _TURN)

    def _call(self, handle: _Handle) -> None:
        try:
            handle.run_in.run(handle.callback, *handle._args)
        except (Killed, SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.call_exception_handler({"message": "callback failed", "exception": error})

    def _park(self) -> None:
        self._generation += 1
        self._parked = True
        if self._timers:
            generation = self._generation
            self._kernel.at(self._timers[0][0], lambda: self._wake(generation))
        self._kernel.park()

    def _wake(self, generation: int) -> None:
        if self._parked and generation == self._generation:
            self._parked = False
            self._kernel.resume(self._thread)

    # -- asyncio ---------------------------------------------------------------------------

    def time(self) -> float:
        return self._kernel.now

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        handle = _Handle(0.0, callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        if self._process.dead:
            raise RuntimeError("the event loop is closed")
        handle = self.call_soon(callback, *args, context=context)
        if self._parked:
            generation = self._generation
            self._kernel.after(self._kernel.rng.random() * 5e-5, lambda: self._wake(generation))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: object,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = _Handle(when, callback, args, self, context)
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, _T] | Coroutine[Any, Any, _T],
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[_T]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: object, function: Callable[..., _T], *args: Any
    ) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = self.create_future()

        def run() -> None:
            try:
                result = function(*args)
            except Exception as error:
                self.call_soon_threadsafe(_settle, future, None, error)
            else:
                self.call_soon_threadsafe(_settle, future, result, None)

        self._process.spawn(run, "executor")
        return future

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self._process.dead

    def is_running(self) -> bool:
        return not self._process.dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._process.dead:
            error = context.get("exception")
            what = f"{self._process.name}: {context.get('message')}: {error!r}"
            self._kernel.fail(what, error)


def _settle(future: asyncio.Future[Any], result: object, error: Exception | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class SimClock:
    """`hf_agent.clock.Clock` of one machine; its wall clock may be set."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.offset = 1_700_000_000.0

    def time(self) -> float:
        return self._kernel.now + self.offset

    def monotonic(self) -> float:
        return self._kernel.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
