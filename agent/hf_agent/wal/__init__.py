"""A write-ahead log: many streams, group commit, crash recovery. A library of its own."""

from __future__ import annotations

from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Disk, OsDisk
from hf_agent.wal.errors import (
    RecordTooLarge,
    TooManyStreams,
    WalCorrupt,
    WalError,
    WalLocked,
    WalStateError,
    WalUnusable,
)
from hf_agent.wal.gathering import Appended
from hf_agent.wal.inspect import Finding, inspect_wal
from hf_agent.wal.reader import Plan
from hf_agent.wal.recovery import Recovery
from hf_agent.wal.state import StreamView
from hf_agent.wal.threads import Lock, OsThreads, Threads
from hf_agent.wal.wal import Wal
from hf_agent.wal.writer import WalState

__all__ = [
    "Appended",
    "Disk",
    "Finding",
    "Lock",
    "OsDisk",
    "OsThreads",
    "Plan",
    "RecordTooLarge",
    "Recovery",
    "StreamView",
    "Threads",
    "TooManyStreams",
    "Wal",
    "WalConfig",
    "WalCorrupt",
    "WalError",
    "WalLocked",
    "WalState",
    "WalStateError",
    "WalUnusable",
    "inspect_wal",
]
