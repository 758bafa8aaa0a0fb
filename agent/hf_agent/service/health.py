"""Whether the agent is well, and whether it takes appends, each with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from hf_agent.wal import WalState

__all__ = ["Phase", "readiness"]


class Phase(Enum):
    """Where the process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"
    FAILED = "failed"


_SHOWN = 5


def readiness(
    phase: Phase, wal: WalState, *, unfit: str, refused: Mapping[str, str]
) -> tuple[bool, list[str]]:
    """Whether appends are taken, and every reason why not.

    A store that is merely away is no reason: appends go on into the WAL. A store that refuses
    streams, or the preflight (`unfit` says why; else it is empty), is one: without an operator the
    WAL will fill up.
    """
    reasons = []
    if phase is Phase.STARTING:
        reasons.append("recovering the WAL")
    elif phase is Phase.DRAINING:
        reasons.append("shutting down")
    elif phase is Phase.FAILED:
        reasons.append("failed")
    if wal.kind != "ok":
        reasons.append(f"WAL {wal.kind}: {wal.reason}" if wal.reason else f"WAL {wal.kind}")
    if unfit:
        reasons.append(f"store refused: {unfit}")
    for stream, reason in list(refused.items())[:_SHOWN]:
        reasons.append(f"flush of {stream!r} refused: {reason}")
    if len(refused) > _SHOWN:
        reasons.append(f"and {len(refused) - _SHOWN} more streams refused")
    return not reasons, reasons
