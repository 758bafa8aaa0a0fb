"""`hf-agent append`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import click

from hf_agent.cli.agents import connect, socket_option, timeout_option
from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import print_json, write_text
from hf_agent.cli.progress import Progress
from hf_agent.client import AppendRefused, Client, ClientError, ClientOptions, fresh_producer
from hf_agent.ingest.stream_name import is_stream_name

__all__ = ["append"]

_CHUNK_BYTES = 64 << 10
_LONGEST_LINE = 256 << 20
"""No agent takes a longer record: see `listen[].max_record_bytes`."""


@click.command(cls=Command)
@socket_option
@click.option("--stream", required=True, metavar="NAME", help="The stream to append to.")
@click.option(
    "--by",
    type=click.Choice(["lines", "chunk"]),
    default="lines",
    show_default=True,
    help="What one append is: a line with its newline, or bytes as they are read.",
)
@click.option(
    "--ack",
    type=click.Choice(["wal", "store"]),
    default="wal",
    show_default=True,
    help="Wait until it is durable in the agent's WAL, or until the store has it.",
)
@click.option(
    "--expect-position",
    type=click.IntRange(0),
    metavar="BYTES",
    help="Append only if the stream is at this position, and nobody else appends in between.",
)
@timeout_option("How long to go on without an agent, while it restarts.", default=60.0)
@click.option("--json", "as_json", is_flag=True, help="The summary as a JSON object.")
@click.argument("file", required=False, type=click.Path(dir_okay=False))
def append(
    socket: str,
    stream: str,
    by: str,
    ack: str,
    expect_position: int | None,
    timeout: float,
    as_json: bool,
    file: str | None,
) -> None:
    """Send FILE, or standard input, to an agent, and wait for every acknowledgement.

    What is sent is stored exactly once, also when the agent restarts meanwhile.
    """
    if not is_stream_name(stream):
        raise click.UsageError(
            f"{stream!r} is not a stream's name: 1-200 letters, digits and . _ - /, without "
            'empty, "." or ".." segments',
            click.get_current_context(),
        )
    sending = _Sending(stream, ack, expect_position)
    options = ClientOptions(reconnect_timeout=timeout, on_ack=sending.acknowledged)
    with ExitStack() as stack:
        source, size = _open(file, stack)
        client = stack.enter_context(connect(socket, producer=fresh_producer(), options=options))
        progress = stack.enter_context(Progress(stream, size))
        pieces = _lines(source) if by == "lines" else _chunks(source)
        sending.send(client, pieces, progress, "line" if by == "lines" else "chunk")
    sending.report(as_json)


class _Sending:
    """One input on its way into one stream."""

    def __init__(self, stream: str, ack: str, expected: int | None) -> None:
        self._expected = expected
        self._stream = stream
        self._ack = ack
        self._appends = 0
        self._bytes = 0
        self._acknowledged = 0
        self._position: int | None = None

    def acknowledged(self, id: int, positions: dict[str, int]) -> None:
        """Called by the client: everything up to `id` is durable."""
        self._acknowledged = id
        self._position = positions.get(self._stream, self._position)

    def send(self, client: Client, pieces: Iterator[bytes], progress: Progress, unit: str) -> None:
        """Append every piece, and wait until all are acknowledged. Raises `CommandError`."""
        try:
            try:
                for piece in pieces:
                    client.append(self._stream, piece, self._ack, expect_position=self._expected)
                    if self._expected is not None:
                        self._expected += len(piece)
                    self._appends += 1
                    self._bytes += len(piece)
                    progress.advance(len(piece))
            except AppendRefused as refusal:
                # What came before is still to be told. What is refused there may be only what was
                # given up behind this one.
                try:
                    client.wait_acknowledged()
                except AppendRefused as other:
                    raise min(refusal, other, key=lambda error: error.id) from None
                raise
            client.wait_acknowledged()
        except AppendRefused as error:
            # The producer's name is fresh: its ids count from 1, as lines do.
            advice = "; send it with --by chunk" if error.code == "record_too_large" else ""
            raise CommandError(
                f"{unit} {error.id} was refused: {error.message}{advice}; "
                f"{self._told()} stream={self._stream}"
            ) from error
        except ClientError as error:
            raise CommandError(f"{error}; {self._told()}") from error

    def report(self, as_json: bool) -> None:
        """The summary, once all is acknowledged."""
        if as_json:
            summary: dict[str, Any] = {
                "stream": self._stream,
                "appends": self._appends,
                "bytes": self._bytes,
                "position": self._position,
                "ack": self._ack,
            }
            print_json(summary)
            return
        where = "" if self._position is None else f"; {self._stream} is at {self._position}"
        write_text(f"acknowledged {self._bytes} bytes in {self._appends} appends{where}")

    def _told(self) -> str:
        if not self._acknowledged:
            return "nothing was acknowledged"
        return f"acknowledged up to append {self._acknowledged}"


def _open(file: str | None, stack: ExitStack) -> tuple[BinaryIO, int | None]:
    """The input, and how many bytes it has, where that is known."""
    if file is None or file == "-":
        return sys.stdin.buffer, None
    source = stack.enter_context(open(file, "rb"))  # noqa: PTH123, SIM115 - the stack closes it
    return source, os.fstat(source.fileno()).st_size


def _lines(source: BinaryIO) -> Iterator[bytes]:
    # One byte more than any agent takes: such a line is refused by its length.
    return iter(lambda: source.readline(_LONGEST_LINE + 1), b"")


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    # As they come, so that what is slowly written to a pipe is sent without waiting for more.
    return iter(lambda: source.read1(_CHUNK_BYTES), b"")  # type: ignore[attr-defined]
