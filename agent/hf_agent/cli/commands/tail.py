"""`hf-agent tail`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import write_bytes
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Reader, StaleVersion
from hf_agent.store.base import StoreRetry

__all__ = ["tail"]

_STEP = 1 << 20
"""Bytes that are looked at at a time, from the end backwards."""


@click.command(cls=Command)
@click.argument("uri")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=10, show_default=True, help="How many."
)
@click.option("-f", "--follow", is_flag=True, help="Go on with what new checkpoints append.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.01),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="With -f: how often to look.",
)
@store_options
def tail(uri: str, lines: int, follow: bool, interval: float, **options: Any) -> None:
    """Write the last lines of a container to standard output."""
    run_async(_tail(store_access(options), uri, lines, interval if follow else None))


async def _tail(access: StoreAccess, uri: str, lines: int, interval: float | None) -> None:
    async with access.container(uri) as (store, key):
        reader = await Reader.open(store, key)
        output = _Output(reader, await start_of_last_lines(reader, lines))
        try:
            await output.copy()
        except StaleVersion:
            if interval is None:
                raise
        clock, away = SystemClock(), False
        while interval is not None:
            await clock.sleep(interval)
            try:
                await reader.refresh()
                if reader.size < output.position:
                    click.echo(f"hf-agent: {uri} was truncated", err=True)
                    output.position = reader.size
                await output.copy()
                away = False
            except StaleVersion:
                pass  # the next look goes on to the newest version, from the same position
            except StoreRetry as error:
                if not away:
                    click.echo(f"hf-agent: {error}; trying on", err=True)
                away = True


class _Output:
    """Copies content to standard output, and knows how far it got when a read fails."""

    def __init__(self, reader: Reader, position: int) -> None:
        self._reader = reader
        self.position = position

    async def copy(self) -> None:
        async for chunk in self._reader.chunks(self.position):
            write_bytes(chunk)
            self.position += len(chunk)


async def start_of_last_lines(reader: Reader, lines: int) -> int:
    """Where the last `lines` lines begin; a last line without newline counts as one."""
    end = reader.size
    if lines == 0 or end == 0:
        return end
    # The newline that ends the last line begins no further one.
    wanted = lines + (await reader.read(end - 1, 1) == b"\n")
    while end > 0:
        start = max(0, (end - 1) // _STEP * _STEP)
        data = await reader.read(start, end - start)
        found = data.count(b"\n")
        if found >= wanted:
            at = len(data)
            for _ in range(wanted):
                at = data.rindex(b"\n", 0, at)
            return start + at + 1
        wanted -= found
        end = start
    return 0
