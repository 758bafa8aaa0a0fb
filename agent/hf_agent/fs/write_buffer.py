"""Containers as fsspec opens them for writing: buffered, one checkpoint when they are closed."""

from __future__ import annotations

import io
from types import TracebackType

from hf_agent.hyperfile.blocking.raw_file import HyperfileIO

__all__ = ["ReadWriteBuffer", "WriteBuffer", "write_buffer"]


class _Committing:
    """What a buffer needs to take part in a transaction of fsspec.

    Leaving a `with` block by an exception leaves the container as it was.
    """

    autocommit: bool
    raw: HyperfileIO

    def close(self) -> None:
        """Make the checkpoint, and close; in a transaction `commit` does both, later."""
        if self.autocommit:
            super().close()  # type: ignore[misc]
        elif not self.raw.closed:
            self.flush()  # type: ignore[attr-defined]

    def commit(self) -> None:
        """The transaction has succeeded."""
        self.autocommit = True
        self.close()

    def discard(self) -> None:
        """The transaction has failed: close without a checkpoint."""
        self.raw.abort()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


class WriteBuffer(_Committing, io.BufferedWriter):
    """Open for writing only."""

    raw: HyperfileIO


class ReadWriteBuffer(_Committing, io.BufferedRandom):
    """Open for both."""

    raw: HyperfileIO


def write_buffer(raw: HyperfileIO, size: int, *, autocommit: bool) -> WriteBuffer | ReadWriteBuffer:
    """A buffer of `size` bytes over a file that is open for writing."""
    made = ReadWriteBuffer(raw, size) if raw.readable() else WriteBuffer(raw, size)
    made.autocommit = autocommit
    return made
