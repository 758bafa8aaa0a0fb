"""What the values of `[listen.syslog]` must be, each by itself and together."""

from __future__ import annotations

from hf_agent.config.forward_rules import Require
from hf_agent.config.location import KeyPath
from hf_agent.config.model import Listen, Syslog
from hf_agent.ingest.stream_name import is_stream_name

__all__ = ["check_syslog"]

_LEAST_RECORD = 2048
"""A JSON record with the shortest of messages has to fit."""
_LARGEST_BUFFER = (1 << 30) - 1
"""The kernel doubles it, and keeps the double in an int."""


def check_syslog(listen: Listen, at: KeyPath, require: Require) -> None:
    """Everything that is wrong with the table at `at`."""
    syslog = listen.syslog
    require(
        listen.protocol == "syslog" or syslog == Syslog(),
        f'protocol "{listen.protocol}" does not have this table: remove it',
        at,
        (*at[:-1], "protocol"),
    )
    if listen.protocol != "syslog":
        return
    require(
        listen.max_record_bytes >= _LEAST_RECORD,
        f'must be at least {_LEAST_RECORD} with protocol "syslog"',
        (*at[:-1], "max_record_bytes"),
    )
    require(
        is_stream_name(syslog.fallback_stream),
        "not a stream's name: use letters, digits and . _ - /",
        (*at, "fallback_stream"),
    )
    require(
        syslog.format == "raw" or syslog.raw_framing == "lines",
        f'format "{syslog.format}" has lines of its own: remove this key',
        (*at, "raw_framing"),
        (*at, "format"),
    )
    require(
        syslog.format == "json" or not syslog.credentials,
        'raw messages have no room for it: set format = "json", or remove this key',
        (*at, "credentials"),
        (*at, "format"),
    )
    _check_socket(listen, at, require)


def _check_socket(listen: Listen, at: KeyPath, require: Require) -> None:
    syslog = listen.syslog
    if syslog.socket == "datagram":
        for key in (
            *("max_connections_per_uid", "idle_timeout"),
            *("connection_bytes_per_second", "stream_bytes_per_second"),
        ):
            require(
                not getattr(listen, key),
                "a datagram socket has no connections to count, end or slow down: remove this key",
                (*at[:-1], key),
                (*at, "socket"),
            )
        for key, default in (("octet_counting", True), ("trailer", "any")):
            require(
                getattr(syslog, key) == default,
                "a datagram is a message, nothing frames it: remove this key",
                (*at, key),
                (*at, "socket"),
            )
    for key, limit in (("receive_buffer_bytes", _LARGEST_BUFFER), ("datagram_queue", 1 << 20)):
        value = getattr(syslog, key)
        require(0 <= value <= limit, f"must be from 0 (as it is) to {limit}", (*at, key))
        require(
            not value or syslog.socket == "datagram",
            "only a datagram socket has this: remove this key",
            (*at, key),
            (*at, "socket"),
        )
