"""What the keys of a `[[listen]]` table must be that say who may write what, and how much."""

from __future__ import annotations

from hf_agent.config.forward_rules import Require
from hf_agent.config.location import KeyPath
from hf_agent.config.model import Listen
from hf_agent.ingest.stream_patterns import check_pattern

__all__ = ["check_access"]

_LEAST = 16 << 10
_MOST = 1 << 40
"""Of a rate, or a burst: with less, reads would be tiny; more is no limit."""
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
    require(
        not listen.idle_timeout or 1 <= listen.idle_timeout <= 30 * 86_400,
        "must be 0 (never), or from 1 second to 30 days",
        (*at, "idle_timeout"),
    )
    for what in ("connection", "stream"):
        _check_rate(listen, what, at, require)


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


def _check_rate(listen: Listen, what: str, at: KeyPath, require: Require) -> None:
    rate_key, burst_key = f"{what}_bytes_per_second", f"{what}_burst_bytes"
    rate, burst = getattr(listen, rate_key), getattr(listen, burst_key)
    require(
        not rate or 1024 <= rate <= _MOST,
        f"must be 0 (no limit), or from 1024 to {_MOST}",
        (*at, rate_key),
    )
    require(
        not burst or _LEAST <= burst <= _MOST,
        f"must be 0 (what the rate gives in a second, and 65536 at least), or from {_LEAST} to "
        f"{_MOST}",
        (*at, burst_key),
    )
    require(
        bool(rate) or not burst,
        f"a burst says nothing without a rate: set {rate_key}, or remove this key",
        (*at, burst_key),
        (*at, rate_key),
    )
