"""`hf-agent zero`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.editing import edited, report_option
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.cli.values import ByteRange, RangeType

__all__ = ["zero"]


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("uri")
@click.argument("byte_range", metavar="A:B", type=RangeType())
@report_option
@store_options
def zero(uri: str, byte_range: ByteRange, as_json: bool, **options: Any) -> None:
    """Make bytes A up to, not including, B read as zeros, as one checkpoint.

    Either may be left out, or negative: from the end. The length stays.
    """
    run_async(_zero(store_access(options), uri, byte_range, as_json))


async def _zero(access: StoreAccess, uri: str, wanted: ByteRange, as_json: bool) -> None:
    async with edited(access, uri, "r+", as_json) as file:
        start, end = wanted.within(file.size)
        await file.zero(start, end - start)
