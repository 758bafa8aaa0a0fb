"""`hf-agent diff`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import print_json, print_table
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile import diff as changed_ranges

__all__ = ["diff"]


@click.command(cls=Command)
@click.argument("uri")
@click.argument("first", type=click.IntRange(min=0))
@click.argument("second", type=click.IntRange(min=0), required=False)
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
@store_options
def diff(uri: str, first: int, second: int | None, as_json: bool, **options: Any) -> int:
    """List the byte ranges that differ between two checkpoints of a container.

    Without SECOND, the newest state is compared. 0 is the empty file before the first checkpoint.

    To the block: within a range that is listed, bytes may be the same. Ends with 1 when there are
    any, with 0 when there are none.
    """
    return run_async(_diff(store_access(options), uri, first, second, as_json))


async def _diff(
    access: StoreAccess, uri: str, first: int, second: int | None, as_json: bool
) -> int:
    async with access.container(uri) as (store, key):
        ranges = await changed_ranges(store, key, first, second)
    if as_json:
        print_json([{"start": found.start, "end": found.end} for found in ranges])
    else:
        print_table(
            ("START", "END", "BYTES"),
            [(found.start, found.end, found.end - found.start) for found in ranges],
        )
    return 1 if ranges else 0
