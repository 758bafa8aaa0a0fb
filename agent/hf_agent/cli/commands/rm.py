"""`hf-agent rm`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.failures import CommandError
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.hyperfile import NoSuchContainer, remove

__all__ = ["rm"]


@click.command(cls=Command)
@click.argument("uris", metavar="URI...", nargs=-1, required=True)
@click.option("-f", "--force", is_flag=True, help="Say nothing of containers that are not there.")
@store_options
def rm(uris: tuple[str, ...], force: bool, **options: Any) -> None:
    """Remove containers, with all their checkpoints. There is no way back."""
    access = store_access(options)
    for uri in uris:
        run_async(_rm(access, uri, force))


async def _rm(access: StoreAccess, uri: str, force: bool) -> None:
    async with access.container(uri) as (store, key):
        try:
            await remove(store, key)
        except NoSuchContainer as error:
            if not force:
                raise CommandError(
                    f"no container here: it has no inode object uri={uri}"
                ) from error
