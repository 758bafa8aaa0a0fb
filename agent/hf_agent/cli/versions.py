"""Versions of a container as commands name them: by a moment."""

from __future__ import annotations

from hf_agent.cli.failures import CommandError
from hf_agent.cli.output import iso_time
from hf_agent.hyperfile import Checkpoint, checkpoint_at
from hf_agent.store.base import Store

__all__ = ["version_at"]


async def version_at(store: Store, key: str, time: float) -> Checkpoint:
    """The version that the container had at `time` (Unix seconds). Raises `CommandError`."""
    found = await checkpoint_at(store, key, time)
    if found is None:
        raise CommandError(
            f"no checkpoint is that old; `hf-agent log` lists them time={iso_time(time)}"
        )
    return found
