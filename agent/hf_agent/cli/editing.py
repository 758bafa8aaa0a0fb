"""What the commands that change a container share: one edit, one checkpoint, one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import click

from hf_agent.cli.output import print_json, write_text
from hf_agent.cli.stores import StoreAccess
from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile import CommitResult, HyperFile, NoSuchContainer

__all__ = ["edited", "report", "report_option"]

report_option = click.option("--json", "as_json", is_flag=True, help="The result as a JSON object.")


@asynccontextmanager
async def edited(
    access: StoreAccess,
    uri: str,
    mode: Literal["r+", "w"],
    as_json: bool,
    *,
    create: bool = False,
) -> AsyncIterator[HyperFile]:
    """The container open for one edit; makes its checkpoint at the end, and tells of it.

    With `create`, one that is not there is created. An error leaves the container as it was.
    """
    async with access.container(uri) as (store, key):
        clock, rng = SystemClock(), system_random()
        try:
            file = await HyperFile.open(store, key, mode, clock=clock, rng=rng)
        except NoSuchContainer:
            if not create:
                raise
            file = await HyperFile.open(store, key, "w", clock=clock, rng=rng)
        async with file:
            yield file
            result = await file.flush()
        report(result, as_json)


def report(result: CommitResult | None, as_json: bool) -> None:
    """Say what a change has made; `None`: nothing was to be changed."""
    if as_json:
        print_json(
            None
            if result is None
            else {
                "checkpoint": result.checkpoint,
                "size": result.size,
                "uploaded_bytes": result.uploaded_bytes,
            }
        )
    elif result is None:
        write_text("nothing to change")
    else:
        write_text(
            f"checkpoint {result.checkpoint}: {result.size} bytes, {result.uploaded_bytes} uploaded"
        )
