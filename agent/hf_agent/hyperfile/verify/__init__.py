"""Verification: every object of a container read, its checksums and its structure checked.

    inventory     what is listed below the key, and the headers
    object_scan   one object from its first byte to its last
    map_check     the block map of every checkpoint, over all objects
    affected      which bytes of the content damage makes unreadable
    container     all of it, in order

Nothing is written, and an agent may go on appending meanwhile.
"""

from __future__ import annotations

from hf_agent.hyperfile.verify.container import verify_container
from hf_agent.hyperfile.verify.report import Affected, Finding, Severity, VerifyReport

__all__ = ["Affected", "Finding", "Severity", "VerifyReport", "verify_container"]
