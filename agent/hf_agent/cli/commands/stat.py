"""`hf-agent stat`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.output import iso_time, print_fields, print_json
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile import ContainerStat, stat_container

__all__ = ["stat"]

_FORMATS = {1: "flat", 2: "micro-group", 3: "parted", 4: "stream"}


@click.command(cls=Command)
@click.argument("uri")
@click.option("--json", "as_json", is_flag=True, help="A JSON object.")
@store_options
def stat(uri: str, as_json: bool, **options: Any) -> None:
    """Show one container: size, checkpoint, time, layout."""
    values = _describe(uri, run_async(_stat(store_access(options), uri)))
    if as_json:
        print_json(values)
    else:
        print_fields([(name.replace("_", " "), _shown(value)) for name, value in values.items()])


async def _stat(access: StoreAccess, uri: str) -> ContainerStat:
    async with access.container(uri) as (store, key):
        return await stat_container(store, key)


def _describe(uri: str, container: ContainerStat) -> dict[str, Any]:
    return {
        "uri": uri,
        "size": container.size,
        "checkpoint": container.checkpoint,
        "last_number": container.last_number,
        "time": iso_time(container.modified),
        "blocks": container.blocks,
        "block_size": container.block_size,
        "meta_block_size": container.meta_block_size,
        "pointer_format": _FORMATS[container.pointer_format],
        "layout": container.layout,
        "inline": container.inline,
        "compaction_attached": container.compaction_attached,
        "unfinished_commits": container.unfinished_commits,
    }


def _shown(value: object) -> object:
    return ("yes" if value else "no") if isinstance(value, bool) else value
