"""Exit statuses of the command, after sysexits.h where it has a name for them."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ExitStatus"]


class ExitStatus(IntEnum):
    """What the process says to its parent."""

    DONE = 0
    FAILED = 1
    USAGE = 64
    STORE_UNAVAILABLE = 69
    WAL_DISK_FAILED = 74
    WAL_LOCKED = 75
    CONFIGURATION = 78
    INTERRUPTED = 130
