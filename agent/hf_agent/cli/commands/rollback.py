"""`hf-agent rollback`"""

from __future__ import annotations

from typing import Any

import click

from hf_agent.cli.command import Command
from hf_agent.cli.editing import report, report_option
from hf_agent.cli.progress import Progress
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile import rollback as roll_back

__all__ = ["rollback"]


@click.command(cls=Command)
@click.argument("uri")
@click.argument("checkpoint", type=click.IntRange(min=1))
@report_option
@store_options
def rollback(uri: str, checkpoint: int, as_json: bool, **options: Any) -> None:
    """Bring back the content of a CHECKPOINT, as a new one: what came after it stays in the log."""
    run_async(_rollback(store_access(options), uri, checkpoint, as_json))


async def _rollback(access: StoreAccess, uri: str, checkpoint: int, as_json: bool) -> None:
    async with access.container(uri) as (store, key):
        with Progress(uri, None, unit="checkpoints") as progress:
            result = await roll_back(
                *(store, key, checkpoint),
                clock=SystemClock(),
                rng=system_random(),
                on_total=progress.expect,
                on_checkpoint=progress.advance,
            )
        report(result, as_json)
