"""What the values of `[listen.forward]` must be, each by itself and together."""

from __future__ import annotations

import re
from typing import Protocol

from hf_agent.config.location import KeyPath
from hf_agent.config.model import Config, Forward, Listen
from hf_agent.ingest.stream_name import is_stream_name

__all__ = ["KEY_RULE", "Require", "check_forward", "is_key"]

_KIB = 1 << 10
_GIB = 1 << 30
_BESIDE = 64 << 10
"""What stands in a receive buffer beside a message."""
_KEY = re.compile(r"""[^"\\\x00-\x1f\x7f$][^"\\\x00-\x1f\x7f]{0,199}""")
KEY_RULE = (
    "not a key: it must not begin with $, nor hold quotes, backslashes or control characters, "
    "and have at most 200 characters"
)
_RESERVED = frozenset(("bytes", "ext", "float", "map", "metadata", "msgpack"))
"""With a `$` in front they stand for what JSON cannot say (docs/forward-protocol.md)."""


class Require(Protocol):
    """Notes a problem unless `holds`; silent where a key was found wrong already."""

    def __call__(self, holds: bool, what: str, path: KeyPath, *also: KeyPath) -> None: ...


def is_key(text: str) -> bool:
    """Whether `text` can be the key of something in a line of JSON."""
    return _KEY.fullmatch(text) is not None


def check_forward(config: Config, listen: Listen, at: KeyPath, require: Require) -> None:
    """Everything that is wrong with the table at `at`."""
    forward = listen.forward
    require(
        listen.protocol == "forward" or forward == Forward(),
        f'protocol "{listen.protocol}" does not have this table: remove it',
        at,
        (*at[:-1], "protocol"),
    )
    if listen.protocol != "forward":
        return
    _check_keys(forward, at, require)
    _check_sizes(config, forward, at, require)
    require(
        not forward.fallback_stream or is_stream_name(forward.fallback_stream),
        "not a stream's name: use letters, digits and . _ - /, or nothing, to refuse such events",
        (*at, "fallback_stream"),
    )
    names = [user.name for user in forward.users]
    require(
        not names or bool(forward.shared_key),
        "users need a shared_key: the handshake is made with both",
        (*at, "users"),
    )
    require(len(set(names)) == len(names), "two users have the same name", (*at, "users"))
    require(
        not forward.shared_key or bool(forward.hostname),
        "empty: peers are told this name in the handshake",
        (*at, "hostname"),
    )


def _check_keys(forward: Forward, at: KeyPath, require: Require) -> None:
    for name in ("time_key", "tag_key", "message_key"):
        key = getattr(forward, name)
        require(
            not key or is_key(key),
            KEY_RULE,
            (*at, name),
        )
    for name in ("time_key", "tag_key"):
        require(
            getattr(forward, name) not in _RESERVED,
            "taken for values that JSON cannot say: choose another",
            (*at, name),
        )
    require(
        not forward.tag_key or forward.tag_key != forward.time_key,
        f"must not be that of the time ({forward.time_key})",
        (*at, "tag_key"),
        (*at, "time_key"),
    )
    for name in ("tag_key", "message_key"):
        require(
            forward.format == "json" or not getattr(forward, name),
            f'format "{forward.format}" keeps entries as they come: remove this key',
            (*at, name),
            (*at, "format"),
        )


def _check_sizes(config: Config, forward: Forward, at: KeyPath, require: Require) -> None:
    for name in ("max_message_bytes", "max_unpacked_bytes"):
        require(
            4 * _KIB <= getattr(forward, name) <= _GIB,
            f"must be from {4 * _KIB} to {_GIB}",
            (*at, name),
        )
    receive = config.agent.receive_buffer_bytes
    require(
        forward.max_message_bytes + _BESIDE <= receive,
        f"must leave {_BESIDE} bytes of agent.receive_buffer_bytes ({receive}) free",
        (*at, "max_message_bytes"),
        ("agent", "receive_buffer_bytes"),
    )
