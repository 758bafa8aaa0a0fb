"""The agent's data directory."""

from __future__ import annotations

import os

__all__ = ["make_data_dir"]


def make_data_dir(path: str) -> None:
    """Make the directory when its parent exists; sockets, WAL and store may lie in it.

    One level only: a parent that is missing is more likely a mistake, or a disk that is not
    mounted, than meant. What cannot be made is reported by whoever needs it first.
    """
    try:
        os.mkdir(path, 0o755)  # noqa: PTH102 - the mode counts, and what exists is left alone
    except OSError:
        pass
