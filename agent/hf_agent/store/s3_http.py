"""How requests travel: aiobotocore's HTTP session, without aiohttp's redirects.

aiohttp would follow a redirect by itself: to another host without the signature, or as a GET what
was a POST. Left alone, the answer reaches botocore, which signs the request anew for the region
that it names.
"""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

__all__ = ["HttpSession"]


class HttpSession(AIOHTTPSession):  # type: ignore[misc] # aiobotocore has no types
    """Answers with redirects as with anything else."""

    async def _get_session(self, proxy_url: str | None) -> _Straight:
        return _Straight(await super()._get_session(proxy_url))


class _Straight:
    """A session of aiohttp that follows nothing."""

    __slots__ = ("_session",)

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, method: str, **named: Any) -> Any:
        return self._session.request(method, allow_redirects=False, **named)
