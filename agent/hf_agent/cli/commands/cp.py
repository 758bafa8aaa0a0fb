"""`hf-agent cp`"""

from __future__ import annotations

from typing import Any, Literal

import click

from hf_agent.cli.command import Command
from hf_agent.cli.progress import Progress
from hf_agent.cli.stores import StoreAccess, run_async, store_access, store_options
from hf_agent.cli.values import Moment
from hf_agent.cli.versions import version_at
from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile import copy

__all__ = ["cp"]


@click.command(cls=Command)
@click.argument("source")
@click.argument("target")
@click.option("--at", metavar="N", type=click.IntRange(min=1), help="Only checkpoint N's content.")
@click.option("--at-time", type=Moment(), help="Only the content of a moment.")
@click.option("--history", is_flag=True, help="All checkpoints, object by object.")
@store_options
def cp(
    source: str,
    target: str,
    at: int | None,
    at_time: float | None,
    history: bool,
    **options: Any,
) -> None:
    """Copy a container to another URI, also of another store. TARGET must not exist.

    The newest content is copied, unless an option says otherwise; holes stay holes.
    """
    if (at is not None) + (at_time is not None) + history > 1:
        raise click.UsageError(
            "--at, --at-time and --history exclude each other", click.get_current_context()
        )
    wanted: int | Literal["history"] | None = "history" if history else at
    run_async(_cp(store_access(options), source, target, wanted, at_time))


async def _cp(
    access: StoreAccess,
    source: str,
    target: str,
    checkpoint: int | Literal["history"] | None,
    at_time: float | None,
) -> None:
    # The source last: it is what the error names when there is no container.
    async with (
        access.container(target) as (to_store, to_key),
        access.container(source) as (from_store, from_key),
    ):
        if at_time is not None:
            checkpoint = (await version_at(from_store, from_key, at_time)).number
        with Progress(target, None) as progress:
            await copy(
                *(from_store, from_key, to_store, to_key),
                checkpoint=checkpoint,
                clock=SystemClock(),
                rng=system_random(),
                progress=progress.advance,
                on_total=progress.expect,
            )
