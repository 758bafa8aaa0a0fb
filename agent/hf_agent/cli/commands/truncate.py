"""`hf-agent truncate`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.editing import edited, report_option
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.cli.values import SizeType

__all__ = ["truncate"]


@click.command(cls=Command)
@click.argument("uri")
@click.argument("size", type=SizeType())
@report_option
@store_options
def truncate(uri: str, size: int, as_json: bool, **options: Any) -> None:
    """Make a container SIZE bytes long, as one checkpoint; what is added reads as zeros."""
    run_async(_truncate(store_access(options), uri, size, as_json))


async def _truncate(access: StoreAccess, uri: str, size: int, as_json: bool) -> None:
    async with edited(access, uri, "r+", as_json) as file:
        await file.truncate(size)
