"""The golden containers, and what their manifest says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.memory_store import MemoryStore

GOLDEN = Path(__file__).parents[1] / "golden"
MANIFEST: dict[str, dict[str, Any]] = json.loads((GOLDEN / "manifest.json").read_text())

DOUBTFUL = {
    "parted-64k-blocks": ["0000000003.0: a base is the fingerprint of an earlier state"],
}
"""What the structure check cannot vouch for, by container: the crate has set a size without a
checkpoint, and built the next one on that."""


def golden_store(name: str) -> MemoryStore:
    """A store that holds one golden container, at its name."""
    return MemoryStore.of_folder(
        GOLDEN / name, name, inode_metadata=MANIFEST[name].get("inode_metadata")
    )


def checkpoints_of(name: str) -> dict[str, dict[str, Any]]:
    """A variant of another container has its checkpoints, up to the point where they part."""
    entry = MANIFEST[name]
    found: dict[str, dict[str, Any]] = entry.get("checkpoints", {})
    return found or MANIFEST.get(entry.get("of", ""), {}).get("checkpoints", {})
