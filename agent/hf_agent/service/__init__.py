"""The agent as a process: wiring, lifecycle, signals, health, exit status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hf_agent.config import Config

__all__ = ["run"]


def run(config: Config, *, config_path: Path) -> int:
    """Run the agent until it is told to stop; returns the exit status."""
    # Imported here so that the command line can say `--help` without loading the event loop.
    from hf_agent.service.main import run_agent

    return run_agent(config, config_path=config_path)
