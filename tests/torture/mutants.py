"""Agents with a bug put in on purpose, to see that the torture finds it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import hf_agent.streams.intake
from hf_agent.wal.writer import Writer

__all__ = ["MUTANTS"]


def _acknowledge_before_writing() -> None:
    """Say that a batch is durable, and write it a moment later."""
    write: Callable[..., bool] = Writer._write

    def early(self: Any, batch: Any) -> bool:
        self._on_durable(batch.number)
        time.sleep(0.03)
        return write(self, batch)

    setattr(Writer, "_write", early)  # noqa: B010 - a method, which mypy would not have replaced
    setattr(Writer, "write_here", lambda self, tell: False)  # noqa: B010


def _forget_chunks() -> None:
    """Take every chunk of protocol `forward` for a new one."""
    setattr(hf_agent.streams.intake, "progress_of", lambda *_: 0)  # noqa: B010


MUTANTS: dict[str, Callable[[], None]] = {
    "acknowledges before it writes": _acknowledge_before_writing,
    "forgets the chunks that it has": _forget_chunks,
}
"""By what is wrong with them."""
