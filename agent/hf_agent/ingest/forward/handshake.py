"""The handshake: HELO, PING, PONG. Both sides show that they know the shared key, unsaid."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.msgpack import decode, encode

from hf_agent.ingest.forward.messages import Ping
from hf_agent.ingest.forward.scan import malformed

__all__ = ["Greeting", "Handshake", "Secrets"]


class Secrets(NamedTuple):
    """What peers must know."""

    shared_key: str
    users: Mapping[str, str]
    """Passwords by name; empty: none is asked for."""


class Greeting(NamedTuple):
    """The answer to a PING."""

    pong: bytes
    refusal: str
    """Why the peer may not send; empty: it may."""


class Handshake:
    """One connection's. `nonce` and `auth_salt` are 16 random bytes each."""

    def __init__(self, secrets: Secrets, hostname: str, nonce: bytes, auth_salt: bytes) -> None:
        self._secrets = secrets
        self._hostname = hostname
        self._nonce = nonce
        # An empty one says that no user is asked for.
        self._auth_salt = auth_salt if secrets.users else b""

    def helo(self) -> bytes:
        """What the agent says first."""
        options = {"nonce": self._nonce, "auth": self._auth_salt, "keepalive": True}
        return encode(["HELO", options])

    def answer(self, ping: Ping) -> Greeting:
        """Judge what the peer says. Raises `ProtocolError` (`malformed`)."""
        salt = decode(ping.salt)
        if isinstance(salt, str):
            salt = salt.encode()
        if not isinstance(salt, bytes):
            raise malformed("salt of PING is neither str nor bin")
        refusal = self._refusal(ping, salt)
        if refusal:
            return Greeting(encode(["PONG", False, refusal, "", ""]), refusal)
        digest = self._key_digest(salt, self._hostname)
        return Greeting(encode(["PONG", True, "", self._hostname, digest]), "")

    def _refusal(self, ping: Ping, salt: bytes) -> str:
        if not _same(ping.shared_key_digest, self._key_digest(salt, ping.hostname)):
            return "shared key does not match"
        users = self._secrets.users
        if users:
            password = users.get(ping.username, "")
            wanted = _sha512(self._auth_salt, ping.username.encode(), password.encode())
            if not _same(ping.password_digest, wanted) or ping.username not in users:
                return "user name or password does not match"
        return ""

    def _key_digest(self, salt: bytes, hostname: str) -> str:
        return _sha512(salt, hostname.encode(), self._nonce, self._secrets.shared_key.encode())


def _sha512(*parts: bytes) -> str:
    return hashlib.sha512(b"".join(parts)).hexdigest()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())
