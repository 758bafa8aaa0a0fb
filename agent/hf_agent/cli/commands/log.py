"""`hf-agent log`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import JsonArray, iso_time, write_text
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile import Checkpoint, list_checkpoints

__all__ = ["log"]

_HEAD = ("CHECKPOINT", "TIME", "SIZE", "CHANGED BLOCKS", "CHANGED BYTES")
_LINE = "{:>10}  {:24}  {:>16}  {:>14}  {:>16}"


@click.command(cls=Command)
@click.argument("uri")
@click.option("-n", "--max-count", type=click.IntRange(min=0), help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
@store_options
def log(uri: str, max_count: int | None, as_json: bool, **options: Any) -> None:
    """List a container's checkpoints, newest first: number, time, size, what they changed."""
    output = _Json() if as_json else _Lines()
    run_async(_log(store_access(options), uri, max_count, output))


async def _log(
    access: StoreAccess, uri: str, max_count: int | None, output: _Json | _Lines
) -> None:
    # Written as they come: a container may have a million of them.
    async with access.container(uri) as (store, key):
        count = 0
        async for checkpoint in list_checkpoints(store, key):
            if max_count is not None and count >= max_count:
                break
            output.add(checkpoint)
            count += 1
    output.end()


class _Json:
    def __init__(self) -> None:
        self._array = JsonArray()

    def add(self, checkpoint: Checkpoint) -> None:
        self._array.add(
            {
                "checkpoint": checkpoint.number,
                "time": iso_time(checkpoint.time),
                "size": checkpoint.size,
                "changed_blocks": checkpoint.changed_blocks,
                "changed_bytes": checkpoint.changed_bytes,
            }
        )

    def end(self) -> None:
        self._array.end()


class _Lines:
    def __init__(self) -> None:
        self._head = True

    def add(self, checkpoint: Checkpoint) -> None:
        if self._head:
            write_text(_LINE.format(*_HEAD))
            self._head = False
        time = iso_time(checkpoint.time)
        changed = checkpoint.changed_blocks, checkpoint.changed_bytes
        write_text(_LINE.format(checkpoint.number, time, checkpoint.size, *changed))

    def end(self) -> None:
        """A list ends without a last line."""
