"""Small messages that arrived together, and are taken together: one append for all of them.

What it costs to format and to append something at all is then shared: for messages of one event
each, as unbuffered loggers send them, that is most of the cost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from hf_agent.ingest.forward.chunk import SLICE_BYTES
from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.messages import Events
from hf_agent.ingest.forward.settings import Route

__all__ = ["Group", "Member"]

_MAX_MEMBERS: Final = 1024


class Member(NamedTuple):
    """One message."""

    events: Events
    entries: Slice
    key: bytes | None
    """Of its chunk, if it has an id."""


class Group:
    """Messages of one tag, in their order."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.route: Route | None = None
        self._tag = b""
        self._keys: set[bytes] = set()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self.members)

    def takes(self, events: Events, key: bytes | None) -> bool:
        """Whether it may have this message, too."""
        if not self.members:
            return True
        return (
            self._tag == events.tag
            and key not in self._keys
            and self._bytes + len(events.entries) <= SLICE_BYTES
            and len(self.members) < _MAX_MEMBERS
            # What belongs to all events of a message would belong to those of others.
            and not events.options.metadata
            and not self.members[0].events.options.metadata
        )

    def add(self, route: Route, events: Events, entries: Slice, key: bytes | None) -> None:
        """Have one more message, which it takes."""
        self.members.append(Member(events, entries, key))
        self.route = route
        self._tag = events.tag
        self._bytes += len(entries.data)
        if key is not None:
            self._keys.add(key)
