"""How far something has come, on a terminal; nothing elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

__all__ = ["Progress"]

_STEP = 256 << 10
"""Bytes between two updates: drawing more often would cost more than sending."""

_SHARE = 4
"""What is named, and the bar, have one part in so many of the line each: the figures need the rest,
and whoever watches would rather do without the beginning of a path than without them."""


class Progress:
    """A bar on standard error while that is a terminal. A context manager."""

    def __init__(
        self, what: str, total: int | None, *, unit: str = "bytes", shown: bool = True
    ) -> None:
        """`total` units it will be in all, where that is known. Without `shown`: no bar."""
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._pending = 0
        self._step = _STEP if unit == "bytes" else 1
        if not shown or not sys.stderr.isatty():
            return
        # Loaded here: scripts and pipes do without it.
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            TextColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Bar

        columns: tuple[ProgressColumn, ...] = (
            (DownloadColumn(binary_units=True), TransferSpeedColumn())
            if unit == "bytes"
            else (MofNCompleteColumn(), TextColumn(unit))
        )
        console = Console(stderr=True)
        share = max(console.width // _SHARE, 1)
        self._bar = Bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=share),
            *columns,
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task(_end_of(what, share), total=total)

    def expect(self, total: int) -> None:
        """So many units it will be in all."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def advance(self, count: int) -> None:
        """So many units more are under way."""
        self._pending += count
        if self._pending >= self._step and self._bar is not None and self._task is not None:
            self._bar.advance(self._task, self._pending)
            self._pending = 0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _end_of(text: str, length: int) -> str:
    return text if len(text) <= length else f"…{text[len(text) - length + 1 :]}"
