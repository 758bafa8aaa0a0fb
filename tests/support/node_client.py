"""Whether tests can use `@fluent-org/logger`, the client of protocol `forward` for node.js."""

from __future__ import annotations

import shutil
import subprocess

import pytest

__all__ = ["needs_node_client"]


def _is_there() -> bool:
    """By NODE_PATH."""
    if shutil.which("node") is None:
        return False
    found = subprocess.run(
        ["node", "-e", 'require.resolve("@fluent-org/logger")'], capture_output=True
    )
    return found.returncode == 0


needs_node_client = pytest.mark.skipif(
    not _is_there(), reason="node.js or its package @fluent-org/logger is not installed"
)
