"""Repairing a damaged log: keep all that is provable, set the rest aside, say what is what.

`sources` finds out which file is which, `walk` reads one, `salvage` adds up what they prove,
`rebuild` writes it as a new log, `dropped` what is not in it, and `swap` puts the new log in the
old one's place so that a crash at any moment leaves the one or the other, or a log that refuses to
open.
"""

from __future__ import annotations

from hf_agent.wal.repair.repair import repair_wal
from hf_agent.wal.repair.report import Damage, Loss, RepairReport

__all__ = ["Damage", "Loss", "RepairReport", "repair_wal"]
