"""`hf-agent run`"""

from __future__ import annotations

from pathlib import Path

import click

from hf_agent.cli.command import Command
from hf_agent.cli.settings import Settings

__all__ = ["run", "start"]


@click.command(cls=Command)
@click.option("--config", type=click.Path(), metavar="FILE", help="The configuration.")
@click.pass_obj
def run(settings: Settings, config: str | None) -> int:
    """Run the agent until it is told to stop (SIGTERM, SIGINT).

    SIGHUP reloads the configuration, SIGUSR1 flushes everything now.
    """
    path = config or settings.config
    if path is None:
        raise click.UsageError("missing option --config", click.get_current_context())
    return start(settings, path)


def start(settings: Settings, path: str) -> int:
    """Run an agent with the configuration at `path`; returns the exit status."""
    # The agent's libraries take a good part of a second to load; `--help` does without them.
    from msgspec.structs import replace

    from hf_agent.config import load
    from hf_agent.logs import setup
    from hf_agent.service import run as run_service

    loaded = load(path)
    log = replace(
        loaded.log,
        level=settings.log_level or loaded.log.level,
        format=settings.log_format or loaded.log.format,
    )
    setup(log.level, log.format)
    return run_service(replace(loaded, log=log), config_path=Path(path))
