"""The botocore client of an S3 store: made on first use, made anew when credentials failed.

Making it reads botocore's service models and looks for credentials, possibly over the network; so
it waits until the first request, and a store can be opened while everything is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from aiobotocore.session import AioSession
from botocore.exceptions import (
    ClientError,
    CredentialRetrievalError,
    InvalidEndpointConfigurationError,
    NoCredentialsError,
)

from hf_agent.store.options import S3Options
from hf_agent.store.s3_errors import KNOWN_ERRORS, is_credential_error
from hf_agent.store.s3_redirects import ask_for_region_once
from hf_agent.store.s3_session import make_session, s3_config

__all__ = ["S3Client"]

_T = TypeVar("_T")
_Send: TypeAlias = Callable[[Any], Awaitable[_T]]

_STILL_EXPIRED = "still expired"
"""In botocore's RuntimeError when what it has just been given is over by this machine's clock."""


@dataclass(slots=True, eq=False)
class _Open:
    session: AioSession
    client: Any
    stack: AsyncExitStack
    users: int = 0
    dropped: bool = False

    async def send(self, send: _Send[_T]) -> _T:
        try:
            return await send(self.client)
        except RuntimeError as error:
            if _STILL_EXPIRED not in str(error):
                raise
            raise _not_retrieved("a session", error) from error


class S3Client:
    """Lends out one client to any number of requests at a time."""

    def __init__(self, options: S3Options, *, sessions: bool) -> None:
        """`sessions`: requests are signed with a session that botocore makes for the bucket."""
        self._options = options
        self._sessions = sessions
        self._making = asyncio.Lock()
        self._open: _Open | None = None
        self._closed = False

    async def run(self, send: _Send[_T]) -> _T:
        """Make a request with the client; raises what botocore raises, also without a client.

        botocore keeps the credentials of files and variables that it found first, or that it found
        none. So when a request is refused for its credentials, they are looked up anew; where that
        finds other ones, the request, which was not carried out, is made once more.
        """
        async with self._lent() as lent:
            used = await _frozen_credentials(lent.session)
            try:
                return await lent.send(send)
            except ClientError as error:
                if not is_credential_error(error):
                    raise
                refusal = error
                self._drop(lent)
        async with self._lent() as fresh:
            found = await _frozen_credentials(fresh.session)
            if found is None:
                raise NoCredentialsError from refusal
            if self._sessions or found != used:
                return await fresh.send(send)
        raise refusal

    async def close(self) -> None:
        """Close all connections; requests that still run fail. Idempotent."""
        self._closed = True
        lent, self._open = self._open, None
        if lent:
            await lent.stack.aclose()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[_Open]:
        """The client, for one request; the next one gets another when credentials failed here."""
        async with self._making:
            if self._closed:
                raise RuntimeError("the store is closed")
            if self._open is None:
                self._open = await self._make()
            lent = self._open
        lent.users += 1
        try:
            yield lent
        except Exception as error:
            if is_credential_error(error):
                self._drop(lent)
            raise
        finally:
            lent.users -= 1
            if lent.dropped and not lent.users:
                await lent.stack.aclose()

    def _drop(self, lent: _Open) -> None:
        """Lend it to nobody any more; it is closed when the last request gives it back."""
        lent.dropped = True
        if self._open is lent:
            self._open = None

    async def _make(self) -> _Open:
        options = self._options
        session = await make_session(options)
        await _frozen_credentials(session)
        stack = AsyncExitStack()
        context = session.create_client(
            "s3",
            region_name=options.region or None,
            endpoint_url=options.endpoint_url or None,
            config=s3_config(options),
        )
        try:
            client = await stack.enter_async_context(context)
        except ValueError as error:
            # botocore's own type for this, which it does not use here.
            raise InvalidEndpointConfigurationError(msg=str(error)) from error
        ask_for_region_once(client)
        return _Open(session, client, stack)


async def _frozen_credentials(session: AioSession) -> object:
    """What requests are signed with now, renewed when it is about to expire; None without any.

    Raises botocore's errors only: renewing may run a program, read files and ask servers, and what
    those get wrong is no defect of ours.
    """
    try:
        found = await session.get_credentials()
        return None if found is None else await found.get_frozen_credentials()
    except KNOWN_ERRORS:
        raise
    except Exception as error:
        raise _not_retrieved("credentials", error) from error


def _not_retrieved(what: str, error: Exception) -> CredentialRetrievalError:
    reason = f"{type(error).__name__}: {error}"
    if _STILL_EXPIRED in str(error):
        reason = "what was given is over already by this machine's clock; is that right?"
    return CredentialRetrievalError(provider=what, error_msg=reason)
