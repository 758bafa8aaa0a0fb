"""What can go wrong with a write-ahead log, and what the caller may do about it.

`WalLocked`, `WalUnusable` and `WalCorrupt` come from opening; `WalStateError`, `TooManyStreams`
and `RecordTooLarge` from appending; `WalCorrupt` from reading too. All are `WalError`s.
"""

from __future__ import annotations

import errno
from pathlib import Path

__all__ = [
    "RecordTooLarge",
    "TooManyStreams",
    "WalCorrupt",
    "WalError",
    "WalLocked",
    "WalStateError",
    "WalUnusable",
    "is_out_of_space",
]

_OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class WalError(Exception):
    """Base of all errors of this package. Message: lower case, `key=value` last."""


class WalLocked(WalError):
    """Another process, or another `Wal` of this one, holds the directory's lock."""

    def __init__(self, path: Path, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"the write-ahead log is held by {holder}; stop it, or use another directory "
            f"path={path}"
        )
        self.path = path
        self.pid = pid
        """Process id that the holder wrote; 0 when it is not known."""


class WalUnusable(WalError):
    """The directory cannot be used until an operator changes something (said in the message)."""


class WalCorrupt(WalError):
    """Bytes that were durable are damaged or gone. Nothing was changed on disk."""

    def __init__(self, file: Path, offset: int, reason: str) -> None:
        super().__init__(f"the write-ahead log is damaged: {reason} file={file} offset={offset}")
        self.file = file
        self.offset = offset
        self.reason = reason


class WalStateError(WalError):
    """The log failed or was closed; nothing is accepted any more. Open it again."""


class TooManyStreams(WalError):
    """A new stream would exceed `max_streams`. Appends to known streams still work."""


class RecordTooLarge(WalError):
    """An append, note, name or mark is larger than its limit. It was not taken."""


def is_out_of_space(error: OSError) -> bool:
    """Whether `error` says that the disk or the quota is full: worth waiting, nothing is lost."""
    return error.errno in _OUT_OF_SPACE
