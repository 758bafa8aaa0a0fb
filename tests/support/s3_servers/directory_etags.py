"""Etags that are random strings, and another one for each write, in front of a server's own.

A server's etag is often the MD5 of the content: whoever relies on that, or on equal content having
an equal etag, is found out here.
"""

from __future__ import annotations

import random
from collections import defaultdict
from string import ascii_lowercase, digits

__all__ = ["OpaqueEtags"]

_LENGTH = 32


class OpaqueEtags:
    """Both directions, for each place: an object, or a part of an upload. Etags without quotes."""

    def __init__(self, seed: int = 0) -> None:
        self._rng = random.Random(seed)
        self._shown: dict[str, dict[str, str]] = defaultdict(dict)

    def shown(self, place: str, etag: str) -> str:
        """What clients see in place of the server's `etag`."""
        return self._shown[place].get(etag) or self.written(place, etag)

    def written(self, place: str, etag: str) -> str:
        """The same after a write: a new one, even where the server's is the one it was before."""
        self._shown[place][etag] = new = "".join(
            self._rng.choices(ascii_lowercase + digits, k=_LENGTH)
        )
        return new

    def own(self, place: str, shown: str) -> str:
        """The server's etag for what a client was shown; one that matches nothing, if none."""
        for own, known in self._shown[place].items():
            if known == shown:
                return own
        return "no-such-etag"
