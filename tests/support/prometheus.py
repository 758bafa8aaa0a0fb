"""Prometheus and its promtool, where this machine has them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

__all__ = ["program"]


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`; skips the test where there is none.

    `HF_AGENT_PROMETHEUS` names the directory that holds both, if they are not on the PATH.
    """
    folder = os.environ.get("HF_AGENT_PROMETHEUS")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: install Debian's package prometheus, or set HF_AGENT_PROMETHEUS")
    return str(Path(found).resolve())
