"""The simulated world: one clock, one queue of events, and threads that only it lets run.

Every thread of every simulated process is a greenlet. It runs until it waits for something; then
the kernel takes the next event. So nothing happens at the same time as anything else, events happen
in the order that the seed gives them, and a process that is killed simply never runs again,
wherever it stood.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable
from types import TracebackType

from greenlet import getcurrent, greenlet

from simulation.trace import Trace

__all__ = ["Kernel", "Killed", "Process", "SimLock", "SimThread"]


class Killed(BaseException):
    """The process that is running has ended. No `Exception`: nothing may handle it."""


class SimThread:
    """A thread of a simulated process."""

    def __init__(self, process: Process, run: Callable[[], object], name: str) -> None:
        self.process = process
        self.name = name
        self.loop: asyncio.AbstractEventLoop | None = None
        """The event loop that runs on it at the moment."""
        self.done = False
        self.joiners: list[SimThread] = []
        self.greenlet = greenlet(self._body, process.kernel.hub)
        self._run = run

    def _body(self, *_: object) -> None:
        try:
            self._run()
        except Killed:
            pass
        except BaseException as error:
            if not self.process.dead:
                self.process.kernel.fail(f"thread {self.name} of {self.process.name} died", error)
        self.done = True
        for joiner in self.joiners:
            self.process.kernel.wake(joiner)


class Process:
    """A simulated process: threads that die together, and what the system takes back then."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.dead = False
        self.threads: list[SimThread] = []
        self.on_death: list[Callable[[], None]] = []

    def spawn(self, run: Callable[[], object], name: str) -> SimThread:
        """Begin a thread."""
        thread = SimThread(self, run, name)
        self.threads.append(thread)
        self.kernel.wake(thread)
        return thread

    def kill(self) -> None:
        """End it here and now; when it is the one that runs, this does not return."""
        if not self.dead:
            self.dead = True
            for callback in self.on_death:
                callback()
        current = self.kernel.current
        if current is not None and current.process is self:
            self.stop_if_dead()

    def stop_if_dead(self) -> None:
        """To be called where a process meets the world: the dead do nothing to it."""
        if self.dead:
            current = self.kernel.current
            if current is not None and current.greenlet is getcurrent():
                self.kernel.hub.switch()  # never switched to again, unless to be taken apart
            raise Killed

    # `hf_agent.wal.Threads`

    def lock(self) -> SimLock:
        return SimLock(self.kernel)

    def start(self, run: Callable[[], None], name: str) -> Callable[[], None]:
        """Begin a thread; what is returned waits for its end."""
        started = self.spawn(run, name)

        def join() -> None:
            if not started.done:
                started.joiners.append(self.kernel.running())
                self.kernel.park()

        return join


class Kernel:
    """Clock, events and threads of one run. Everything that is left to chance comes from `rng`."""

    def __init__(self, seed: int, trace: Trace) -> None:
        self.rng = random.Random(seed)
        self.trace = trace
        self.now = 0.0
        """Seconds since the world began."""
        self.hub = getcurrent()
        self.current: SimThread | None = None
        self.failure: str | None = None
        self.cause: BaseException | None = None
        self.events = 0
        self._queue: list[tuple[float, float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._until = 0.0

    def at(self, when: float, call: Callable[[], None]) -> None:
        """Have `call` made at `when`; among events of one time, chance decides."""
        self._sequence += 1
        heapq.heappush(self._queue, (when, self.rng.random(), self._sequence, call))

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        """Have `call` made in so many seconds."""
        self.at(self.now + seconds, call)

    def run(self, until: float, *, stop: Callable[[], bool] = lambda: False) -> bool:
        """Let events happen up to a time; False when `stop` ended it, or nothing is left."""
        queue = self._queue
        self._until = until
        while queue and queue[0][0] <= until:
            when, _, _, call = heapq.heappop(queue)
            self.now = max(self.now, when)
            self.events += 1
            call()
            if self.failure is not None:
                raise AssertionError(self.failure) from self.cause
            if stop():
                return False
        self.now = max(self.now, until)
        return True

    def fail(self, what: str, cause: BaseException | None = None) -> None:
        """Something is wrong, with the product or with the simulation: end the run."""
        if self.failure is None:
            self.failure = what
            self.cause = cause

    # -- threads ---------------------------------------------------------------------------

    def running(self) -> SimThread:
        """The thread that runs."""
        assert self.current is not None, "outside of every thread"
        return self.current

    def wake(self, thread: SimThread, seconds: float | None = None) -> None:
        """Let a thread go on, soon."""
        if seconds is None:
            seconds = self.rng.random() * 5e-5
        self.after(seconds, lambda: self.resume(thread))

    def resume(self, thread: SimThread) -> None:
        """Switch to a thread now."""
        if thread.process.dead or thread.done:
            return
        self.current = thread
        asyncio._set_running_loop(thread.loop)
        try:
            thread.greenlet.switch()
        finally:
            self.current = None
            asyncio._set_running_loop(None)

    def park(self) -> None:
        """The running thread stops here until it is resumed."""
        thread = self.running()
        thread.loop = asyncio._get_running_loop()
        self.hub.switch()

    def block(self, seconds: float) -> None:
        """The running thread is held up for so long, by the disk or by its own work."""
        thread = self.running()
        when = self.now + seconds
        queue = self._queue
        if when <= self._until and self.failure is None and (not queue or queue[0][0] > when):
            self.now = when  # nothing happens meanwhile
            return
        self.at(when, lambda: self.resume(thread))
        self.park()


class SimLock:
    """As `threading.Lock`; whoever waits for it does so in simulated time."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._held = False
        self._waiters: deque[_Waiter] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._held:
            self._held = True
            return True
        if not blocking or timeout == 0:
            return False
        waiter = _Waiter(self._kernel.running())
        self._waiters.append(waiter)
        if timeout > 0:
            self._kernel.after(timeout, lambda: self._time_out(waiter))
        self._kernel.park()
        return waiter.got

    def release(self) -> None:
        if self._waiters:
            waiter = self._waiters.popleft()
            waiter.got = True
            self._kernel.wake(waiter.thread)
        else:
            self._held = False

    def _time_out(self, waiter: _Waiter) -> None:
        if not waiter.got:
            self._waiters.remove(waiter)
            self._kernel.resume(waiter.thread)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.release()


class _Waiter:
    __slots__ = ("got", "thread")

    def __init__(self, thread: SimThread) -> None:
        self.thread = thread
        self.got = False
