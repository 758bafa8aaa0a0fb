"""Interrupts of commands that wait for the operating system while they are in an event loop.

asyncio answers SIGINT by cancelling the command at its next `await`. A command that waits for a
pipe is at none: it would go on waiting, until somebody writes, or reads, or interrupts once more.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["interruptible"]


@contextmanager
def interruptible() -> Iterator[None]:
    """Within it SIGINT raises `KeyboardInterrupt` at once. For the main thread, in a task."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):  # ignored, as a shell has it for what runs in its background
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # the interrupt came just before
        yield
    finally:
        signal.signal(signal.SIGINT, before)
