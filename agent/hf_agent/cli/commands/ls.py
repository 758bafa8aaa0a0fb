"""`hf-agent ls`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import iso_time, print_json, print_table
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile import (
    ContainerStat,
    FormatError,
    NoSuchContainer,
    list_containers,
    stat_container,
)
from hf_agent.hyperfile.concurrency import map_concurrently

__all__ = ["ls"]

_REQUESTS = 16
"""Containers that are looked at at a time."""


@click.command(cls=Command)
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="A JSON array.")
@store_options
def ls(url: str, as_json: bool, **options: Any) -> None:
    """List the containers below URL: size, checkpoint, time, name.

    URL is s3://bucket/prefix, file:///directory or file:./directory.
    """
    found, faults = run_async(_find(store_access(options), url))
    if as_json:
        print_json([_row(url, container) for container in found])
    else:
        print_table(
            ("SIZE", "CHECKPOINT", "TIME", "NAME"),
            [(each.size, each.checkpoint, iso_time(each.modified), each.key) for each in found],
        )
        if not found and not faults:
            click.echo(f"hf-agent: no containers below {url}", err=True)
    if faults:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        raise CommandError(f"{faults[0]}{more}")


async def _find(access: StoreAccess, url: str) -> tuple[list[ContainerStat], list[str]]:
    """The containers in the order of their keys, and what is wrong with damaged ones."""
    faults: list[str] = []
    async with access.store(url) as store:

        async def look(key: str) -> ContainerStat | None:
            try:
                return await stat_container(store, key)
            except NoSuchContainer:
                return None  # removed meanwhile
            except FormatError as error:
                faults.append(str(error))
                return None

        keys = sorted([key async for key in list_containers(store)])
        found = await map_concurrently(look, keys, limit=_REQUESTS)
    return [each for each in found if each is not None], faults


def _row(url: str, container: ContainerStat) -> dict[str, Any]:
    return {
        "uri": f"{url.rstrip('/')}/{container.key}",
        "key": container.key,
        "size": container.size,
        "checkpoint": container.checkpoint,
        "time": iso_time(container.modified),
    }
