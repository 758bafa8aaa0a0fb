"""Structure check: every rule of the format page, on a whole container and all of its history.

Written from that page alone, with `struct`: it shares no code with what reads and writes
containers here, so that the one does not excuse the other.

    raw          fields of inodes, headers and pointers
    reading      ranges of objects, and a bound on what is kept of them
    objects      the objects of a container, each by itself
    tree         the block map of a state
    container    the states, and how they follow each other

Nothing is written, and writers may go on meanwhile. Data is read only where a rule speaks of it;
checksums are not this check's affair.
"""

from __future__ import annotations

from hf_agent.hyperfile.check.container import check_structure
from hf_agent.hyperfile.check.report import MOST_OBJECTS, MOST_VIOLATIONS, KnownDamage, Violation

__all__ = ["MOST_OBJECTS", "MOST_VIOLATIONS", "KnownDamage", "Violation", "check_structure"]
