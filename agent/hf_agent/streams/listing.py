"""Some of the streams, in some order: cheap enough to be asked for often with thousands of them.

Only numbers and names of all streams are looked at; rows are made for those that are shown.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from operator import attrgetter
from typing import Final, NamedTuple

from hf_agent.streams.state import StreamState

__all__ = ["ATTRIBUTES", "Listing", "list_streams"]

ATTRIBUTES: Final = {
    "stream": "name",
    "position": "position",
    "committed": "committed",
    "unflushed_bytes": "unflushed",
    "oldest_unflushed_timestamp": "since",
    "key": "key",
    "diverted": "diverted",
    "conflicts": "conflicts",
    "last_conflict_timestamp": "last_conflict",
    "checkpoint": "checkpoint",
    "container_bytes": "size",
    "flushes": "flushes",
    "last_flush_timestamp": "last_flush",
    "error": "error",
}
"""The attribute behind each field of a stream's row."""


class Listing(NamedTuple):
    """What was asked for."""

    streams: list[StreamState]
    matched: int
    """How many there are in all that match."""


def list_streams(
    states: Collection[StreamState],
    *,
    prefix: str = "",
    search: str = "",
    sort: str = "",
    descending: bool = False,
    offset: int = 0,
    limit: int = 1000,
) -> Listing:
    """Streams `offset` to `offset + limit` of those that match.

    `search` is a part of the name in any case; `sort` is one of `ATTRIBUTES`, or empty: in the
    order in which the streams appeared. Equal ones are in the order of their names.
    """
    found: Collection[StreamState] = states
    if prefix:
        found = [state for state in found if state.name.startswith(prefix)]
    if search:
        needle = search.lower()
        found = [state for state in found if needle in state.name.lower()]
    end = offset + limit
    if not sort:
        chosen = list(found)[offset:end]
    else:
        attribute = ATTRIBUTES[sort]
        if end < len(found) // 8:
            # Cheaper than sorting all of them for the first page.
            pick = heapq.nlargest if descending else heapq.nsmallest
            chosen = pick(end, found, key=attrgetter(attribute, "name"))[offset:]
        else:
            # Two stable sorts by one thing each are several times as fast as one by pairs.
            ordered = sorted(found, key=attrgetter("name"), reverse=descending)
            ordered.sort(key=attrgetter(attribute), reverse=descending)
            chosen = ordered[offset:end]
    return Listing(chosen, len(found))
