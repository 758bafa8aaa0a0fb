"""Containers as a file system for everything that speaks fsspec: protocol `hyperfile`.

Needs the package `fsspec` (extra `fsspec`). `docs/hyperfile.md` shows how it is used.
"""

from __future__ import annotations

from hf_agent.fs.filesystem import HyperfileFileSystem

__all__ = ["HyperfileFileSystem"]
