"""The view that goes on: it looks again and again, and follows the size of the terminal."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeAlias

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import iso_time
from hf_agent.cli.status.figures import clean
from hf_agent.cli.status.look import Agent, Look
from hf_agent.cli.status.view import draw
from hf_agent.client import ClientError
from hf_agent.clock import Clock

__all__ = ["Watch", "watch"]

_Wait: TypeAlias = Callable[[float], bool]


class Watch:
    """The last look, what changed since the one before, and whether there is an agent at all."""

    def __init__(self, agent: Agent, clock: Clock) -> None:
        self._agent = agent
        self._clock = clock
        self._look: Look | None = None
        self._at = 0.0
        self._rates: dict[str, float] = {}
        self._fault = ""
        self._lost = 0.0

    def look(self) -> None:
        """Look at the agent, or note that it cannot be seen."""
        try:
            look = self._agent.look()
        except (CommandError, ClientError) as error:
            if not self._fault:
                self._lost = self._clock.time()
            self._fault = str(error)
            return
        at = self._clock.monotonic()
        if self._look is not None:
            self._rates = _rates(self._look, look, at - self._at)
        self._look, self._at, self._fault = look, at, ""

    def draw(self, height: int) -> RenderableType:
        """What there is to see, in so many lines."""
        notice = None
        if self._fault:
            since = iso_time(self._lost)[:19] + "Z"
            notice = Text(
                f"no answer since {since}, trying again: {clean(self._fault)}", "bold red"
            )
            notice.no_wrap, notice.overflow = True, "ellipsis"
        if self._look is None:
            return notice or Text()
        # What was seen last stands still while there is no agent.
        now = self._lost if self._fault else self._clock.time()
        return draw(self._look, now, rates=self._rates, height=height, notice=notice)


def watch(agent: Agent, seconds: float, *, clock: Clock, console: Console) -> None:
    """Look every so many seconds, until an interrupt."""
    watched = Watch(agent, clock)
    with (
        _resizes() as wait_for_resize,
        _ended_by_signals(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            watched.look()
            next_look = clock.monotonic() + seconds
            while True:
                live.update(watched.draw(console.size.height), refresh=True)
                if not wait_for_resize(max(0.0, next_look - clock.monotonic())):
                    break


def _rates(before: Look, after: Look, elapsed: float) -> dict[str, float]:
    """Bytes a second by stream, of those that both looks know."""
    if elapsed <= 0:
        return {}
    positions = {row["stream"]: row["position"] for row in before.streams}
    return {
        row["stream"]: max(0.0, row["position"] - positions[row["stream"]]) / elapsed
        for row in after.streams
        if row["stream"] in positions
    }


@contextmanager
def _resizes() -> Iterator[_Wait]:
    """What waits for so many seconds, or for the terminal to change its size: then it is true.

    A signal that comes just before the wait ends it too, whichever it is: each leaves a byte.
    """
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    def wait(seconds: float) -> bool:
        if not select.select([reader], [], [], seconds)[0]:
            return False
        reader.recv(4096)
        return True

    bytes_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    before = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    try:
        yield wait
    finally:
        signal.signal(signal.SIGWINCH, before)
        signal.set_wakeup_fd(bytes_before)
        reader.close()
        writer.close()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave by what is done at the end, so that the terminal is as it was before."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {each: signal.signal(each, end) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
