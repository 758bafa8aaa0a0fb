"""What the keys of a `[[listen]]` table must be that say who may write what, and how much."""

from __future__ import annotations

from hf_agent.config.forward_rules import Require
from hf_agent.config.location import KeyPath
from hf_agent.config.model import Listen
from hf_agent.ingest.stream_patterns import check_pattern

__all__ = ["check_access"]

_MAX_LISTED = 1024
"""Entries of a list: more than that wants a group, or a pattern."""


def check_access(listen: Listen, at: KeyPath, require: Require) -> None:
    """Everything that is wrong with these keys of the table at `at`."""
    for key in ("allow_uids", "allow_gids", "allow_streams"):
        require(
            len(getattr(listen, key)) <= _MAX_LISTED,
            f"too many entries: at most {_MAX_LISTED}",
            (*at, key),
        )
    _check_streams(listen, (*at, "allow_streams"), (*at, "stream"), require)
    require(
        0 <= listen.max_connections_per_uid <= listen.max_connections,
        f"must be from 0 (no limit) to max_connections ({listen.max_connections})",
        (*at, "max_connections_per_uid"),
        (*at, "max_connections"),
    )


def _check_streams(listen: Listen, path: KeyPath, stream: KeyPath, require: Require) -> None:
    for index, pattern in enumerate(listen.allow_streams):
        fault = check_pattern(pattern)
        require(not fault, fault, (*path, index))
    require(
        not listen.allow_streams or not listen.stream or "{" in listen.stream,
        f'all of this socket goes to stream "{listen.stream}" anyway: remove this key',
        path,
        stream,
    )
