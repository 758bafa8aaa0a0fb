"""fsspec's event loop, as files that block use one."""

from __future__ import annotations

import asyncio
from typing import Any

from fsspec.asyn import sync

from hf_agent.fs.errors import os_errors

__all__ = ["FsLoop"]


class FsLoop:
    """fsspec's loop, for a file that blocks."""

    def __init__(self, loop: asyncio.AbstractEventLoop, path: str) -> None:
        self._loop = loop
        self._path = path

    def run(self, work: Any) -> Any:
        """Have the loop do `work`, and wait for it."""
        with os_errors(self._path):
            return sync(self._loop, lambda: work)
