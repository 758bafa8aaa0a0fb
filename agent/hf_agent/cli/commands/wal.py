"""`hf-agent wal`"""

from __future__ import annotations

import click

from hf_agent.cli.command import LazyGroup

__all__ = ["wal"]


@click.group(
    cls=LazyGroup,
    lazy={
        "inspect": ("hf_agent.cli.commands.wal_inspect:inspect", "Show what a log holds."),
        "repair": ("hf_agent.cli.commands.wal_repair:repair", "Make a damaged log open again."),
    },
)
def wal() -> None:
    """Look into a write-ahead log, or repair it."""
