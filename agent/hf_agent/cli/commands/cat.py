"""`hf-agent cat`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import output_is_a_file, write_bytes
from hf_agent.cli.progress import Progress
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.cli.values import ByteRange, Moment, RangeType
from hf_agent.cli.versions import version_at
from hf_agent.hyperfile import Reader

__all__ = ["cat"]


@click.command(cls=Command)
@click.argument("uri")
@click.option("--at", metavar="N", type=click.IntRange(min=1), help="As of checkpoint N.")
@click.option("--at-time", type=Moment(), help="As of a moment: ISO 8601, or Unix seconds.")
@click.option(
    "--range",
    "byte_range",
    type=RangeType(),
    help="Bytes A up to, not including, B; each may be left out, or negative: from the end.",
)
@click.option(
    "--ignore-checksums",
    is_flag=True,
    help="Read what is damaged as it stands; `verify` says what that is.",
)
@store_options
def cat(
    uri: str,
    at: int | None,
    at_time: float | None,
    byte_range: ByteRange | None,
    ignore_checksums: bool,
    **options: Any,
) -> None:
    """Write a container's content to standard output.

    Every block is compared with its checksum, where it has one, before it is written.
    """
    if at is not None and at_time is not None:
        raise click.UsageError("--at and --at-time exclude each other", click.get_current_context())
    wanted, checked = byte_range or ByteRange(0, None), not ignore_checksums
    run_async(_cat(store_access(options), uri, at, at_time, wanted, checked=checked))


async def _cat(
    access: StoreAccess,
    uri: str,
    at: int | None,
    at_time: float | None,
    wanted: ByteRange,
    *,
    checked: bool,
) -> None:
    async with access.container(uri) as (store, key):
        if at_time is not None:
            at = (await version_at(store, key, at_time)).number
        reader = await Reader.open(store, key, checkpoint=at, checked=checked)
        start, end = wanted.within(reader.size)
        with Progress(uri, end - start, shown=output_is_a_file()) as progress:
            async for chunk in reader.chunks(start, end):
                write_bytes(chunk)
                progress.advance(len(chunk))
