"""Who may connect to a socket, and how many at a time.

A connection that is refused never counts: whoever may not write takes no place from those who may.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple, Protocol

from hf_agent.ingest.accounts import group_id, user_id
from hf_agent.ingest.append_errors import ErrorCode
from hf_agent.ingest.credentials import Credentials

__all__ = ["AccessConfig", "Admission", "Refusal", "UnknownAccount", "not_allowed"]


class AccessConfig(Protocol):
    """The part of a `[[listen]]` table that says who may connect."""

    @property
    def allow_uids(self) -> tuple[str, ...]:
        """Names or numbers; with `allow_gids` empty as well: everybody."""
        ...

    @property
    def allow_gids(self) -> tuple[str, ...]: ...
    @property
    def max_connections(self) -> int: ...
    @property
    def max_connections_per_uid(self) -> int:
        """0: no limit but `max_connections`."""
        ...


class UnknownAccount(ValueError):
    """A name in the lists that this machine does not know."""


class Refusal(NamedTuple):
    """Why a connection is not let in."""

    code: ErrorCode
    reason: str
    """Label of `refused_connections_total`."""
    message: str


class Admission:
    """The rules of one socket, and the connections that it has let in."""

    def __init__(self, config: AccessConfig) -> None:
        """Raises `UnknownAccount`."""
        self._uids = frozenset(_user(name) for name in config.allow_uids)
        self._gids = frozenset(_group(name) for name in config.allow_gids)
        self._is_open = not self._uids and not self._gids
        self._max: Final = config.max_connections
        self._max_per_uid: Final = config.max_connections_per_uid or config.max_connections
        self._by_uid: Counter[int] = Counter()
        self.connections = 0
        """Let in, and not gone."""

    @property
    def is_open(self) -> bool:
        """Whether there are no lists, so that it does not matter who it is."""
        return self._is_open

    @property
    def is_full(self) -> bool:
        """Whether nobody is let in any more, whoever it is."""
        return self.connections >= self._max

    def has_too_many(self, uid: int) -> bool:
        """Whether this user is not let in any more."""
        return self._by_uid[uid] >= self._max_per_uid

    def allows(self, peer: Credentials) -> bool:
        """Whether the peer is on the lists, or there are none."""
        return (
            self._is_open
            or peer.uid in self._uids
            or peer.gid in self._gids
            or not self._gids.isdisjoint(peer.groups)
        )

    def enter(self, peer: Credentials) -> Refusal | None:
        """Let the peer in, if it may; else why not."""
        if not self.allows(peer):
            return Refusal(ErrorCode.NOT_ALLOWED, "not_allowed", not_allowed(peer))
        if self.has_too_many(peer.uid):
            return Refusal(
                ErrorCode.TOO_MANY_CONNECTIONS,
                "too_many_connections_per_uid",
                f"user has its most connections uid={peer.uid} limit={self._max_per_uid}",
            )
        if self.is_full:
            return Refusal(
                ErrorCode.TOO_MANY_CONNECTIONS,
                "too_many_connections",
                f"socket has its most connections limit={self._max}",
            )
        self.connections += 1
        self._by_uid[peer.uid] += 1
        return None

    def leave(self, peer: Credentials) -> None:
        """A connection that was let in is gone."""
        self.connections -= 1
        self._by_uid[peer.uid] -= 1
        if not self._by_uid[peer.uid]:
            del self._by_uid[peer.uid]


def not_allowed(peer: Credentials) -> str:
    """What a peer is told that the lists do not admit."""
    return f"user may not write to this socket uid={peer.uid} gid={peer.gid}"


def _user(name: str) -> int:
    try:
        return user_id(name)
    except KeyError as error:
        raise UnknownAccount(f"no such user: correct allow_uids user={name}") from error


def _group(name: str) -> int:
    try:
        return group_id(name)
    except KeyError as error:
        raise UnknownAccount(f"no such group: correct allow_gids group={name}") from error
