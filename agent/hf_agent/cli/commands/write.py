"""`hf-agent write`"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import Any, BinaryIO, Literal

import click

from hf_agent.cli.command import Command
from hf_agent.cli.editing import edited, report_option
from hf_agent.cli.interrupts import interruptible
from hf_agent.cli.progress import Progress
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.cli.values import SizeType

__all__ = ["write"]

_CHUNK_BYTES = 4 << 20


@click.command(cls=Command)
@click.argument("uri")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
@click.option(
    "--offset",
    type=SizeType(),
    help="Write from this byte on and leave the rest as it is; without it, replace the content.",
)
@report_option
@store_options
def write(uri: str, file: str | None, offset: int | None, as_json: bool, **options: Any) -> None:
    """Write FILE, or standard input, into a container, as one checkpoint.

    The container is created when it is not there.
    """
    with ExitStack() as stack:
        source, size = _open(file, stack)
        progress = stack.enter_context(Progress(uri, size))
        run_async(_write(store_access(options), uri, source, offset, progress, as_json))


async def _write(
    access: StoreAccess,
    uri: str,
    source: BinaryIO,
    offset: int | None,
    progress: Progress,
    as_json: bool,
) -> None:
    mode: Literal["w", "r+"] = "w" if offset is None else "r+"
    async with edited(access, uri, mode, as_json, create=True) as file:
        position = offset or 0
        # A command has nothing else to do on its loop while it reads its input.
        while data := _read(source):
            await file.pwrite(position, data)
            position += len(data)
            progress.advance(len(data))


def _read(source: BinaryIO) -> bytes:
    # One call of the operating system each: an interrupt between two of them would not be noticed.
    with interruptible():
        return source.read1(_CHUNK_BYTES)  # type: ignore[attr-defined,no-any-return]


def _open(file: str | None, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    """The input, and how many bytes it has, where that is known."""
    if file is None or file == "-":
        return sys.stdin.buffer, None
    source = stack.enter_context(open(file, "rb"))  # noqa: PTH123, SIM115 - the stack closes it
    return source, os.fstat(source.fileno()).st_size
