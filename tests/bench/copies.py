"""Counts the copies that payload bytes go through in user space, from the WAL to the socket.

Beside those there are the two that the kernel makes: page cache to the checkpoint's memory when
the WAL is read, that memory to the socket's buffers when a request is written. (uvloop keeps views
of what the socket does not take at once; asyncio's own transport before Python 3.12 copies it.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from aiohttp.http_writer import SKIP_WRITELINES, StreamWriter

from hf_agent.hyperfile.checkpoint_build import CheckpointBuild
from hf_agent.store import s3_requests
from hf_agent.store.buffers import Views
from hf_agent.wal import reader as wal_reader

__all__ = ["Copies", "counted_copies"]


@dataclass
class Copies:
    """Bytes copied, by where."""

    gathered: int = 0
    """Out of the window in which small records are read together."""
    taken_up: int = 0
    """The last, partial block, out of one checkpoint and into the next."""
    joined: int = 0
    """Small bodies, and the first piece of a larger one with the head of its request."""
    views: int = 0
    """Handed to the transport where they stand. Not a copy."""

    def describe(self, stored: int) -> str:
        """Figures for each byte of `stored`."""
        copied = (self.gathered + self.taken_up + self.joined) / stored
        return (
            f"copied in user space: {copied:.3f} bytes for each byte stored (small records "
            f"{self.gathered / stored:.3f}, last blocks {self.taken_up / stored:.3f}, heads of "
            f"requests {self.joined / stored:.3f}); {self.views / stored:.3f} went to the socket "
            "from where the WAL was read to"
        )


@contextmanager
def counted_copies() -> Iterator[Copies]:
    """Count until the end of the context, in this process."""
    copies = Copies()
    with ExitStack() as patches:
        for owner, name, wrapper in (
            (wal_reader.Reader, "read_into", _reading),
            (CheckpointBuild, "tail", _taking_up),
            (s3_requests, "request_body", _joining),
            (StreamWriter, "_write", _writing),
            (StreamWriter, "_writelines", _writing_lines),
        ):
            wrapped = wrapper(copies, getattr(owner, name))
            patches.enter_context(patch.object(owner, name, wrapped))
        yield copies


Function = Callable[..., Any]


def _reading(copies: Copies, read_into: Function) -> Function:
    def counted(reader: Any, plan: Any, buffer: memoryview) -> None:
        for segment in plan.segments:
            before = segment.start - segment.base
            for end in segment.ends:
                if end - before < wal_reader._DIRECT:
                    copies.gathered += end - before
                before = end
        read_into(reader, plan, buffer)

    return counted


def _taking_up(copies: Copies, tail: Function) -> Function:
    def counted(build: CheckpointBuild) -> bytes:
        taken: bytes = tail(build)
        copies.taken_up += 2 * len(taken)
        return taken

    return counted


def _joining(copies: Copies, request_body: Function) -> Function:
    def counted(views: Views, progress: Callable[[], None]) -> Any:
        body = request_body(views, progress)
        if isinstance(body, bytes):
            copies.joined += len(body)
        return body

    return counted


def _writing(copies: Copies, write: Function) -> Function:
    def counted(writer: StreamWriter, chunk: Any) -> None:
        if isinstance(chunk, memoryview):
            copies.views += chunk.nbytes
        write(writer, chunk)

    return counted


def _writing_lines(copies: Copies, writelines: Function) -> Function:
    def counted(writer: StreamWriter, chunks: Iterable[Any]) -> None:
        chunks = tuple(chunks)
        nbytes = sum(chunk.nbytes for chunk in chunks if isinstance(chunk, memoryview))
        if SKIP_WRITELINES:
            copies.joined += nbytes
        else:
            copies.views += nbytes
        writelines(writer, chunks)

    return counted
