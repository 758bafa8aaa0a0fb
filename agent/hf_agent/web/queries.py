"""What a request for streams asks, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["MAX_STREAMS", "SORTS", "BadQuery", "StreamQuery", "parse_stream_query"]

_DEFAULT_STREAMS: Final = 1000
MAX_STREAMS: Final = 10_000
"""Rows in one answer."""
_MAX_OFFSET: Final = 1_000_000_000
_MAX_SEARCH: Final = 200
SORTS: Final = (
    *("stream", "position", "committed", "unflushed_bytes", "oldest_unflushed_timestamp", "key"),
    *("diverted", "conflicts", "last_conflict_timestamp", "checkpoint", "container_bytes"),
    *("flushes", "last_flush_timestamp", "error"),
)
"""Fields of a row that may be sorted by."""


class BadQuery(ValueError):
    """A parameter that is none: which one, and what it may be."""


class StreamQuery(NamedTuple):
    """`?prefix=&search=&sort=&limit=&offset=`"""

    prefix: str
    search: str
    """A part of the name, in any case."""
    sort: str
    """One of `SORTS`, or empty for none."""
    descending: bool
    """`sort` was written with a `-` in front."""
    offset: int
    limit: int


def parse_stream_query(parameters: Mapping[str, str]) -> StreamQuery:
    """Raises `BadQuery`. Parameters with other names mean nothing."""
    sort = parameters.get("sort", "")
    field = sort.removeprefix("-")
    if sort and field not in SORTS:
        raise BadQuery(f"sort must be one of {', '.join(SORTS)}, with a - in front for descending")
    search = parameters.get("search", "")
    if len(search) > _MAX_SEARCH:
        raise BadQuery(f"search must have at most {_MAX_SEARCH} characters")
    return StreamQuery(
        prefix=parameters.get("prefix", ""),
        search=search,
        sort=field,
        descending=sort.startswith("-"),
        offset=_number(parameters, "offset", 0, least=0, most=_MAX_OFFSET),
        limit=_number(parameters, "limit", _DEFAULT_STREAMS, least=1, most=MAX_STREAMS),
    )


def _number(
    parameters: Mapping[str, str], name: str, default: int, *, least: int, most: int
) -> int:
    text = parameters.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) <= most:
        raise BadQuery(f"{name} must be a whole number from {least} to {most}")
    return int(text[:12])
