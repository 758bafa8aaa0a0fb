"""The botocore client of an S3 store: made on first use, made anew when credentials failed.

Making it reads botocore's service models and looks for credentials, possibly over the network; so
it waits until the first request, and a store can be opened while everything is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import InvalidEndpointConfigurationError
from botocore.loaders import create_loader

from hf_agent.store.options import S3Options
from hf_agent.store.s3_errors import is_credential_error

__all__ = ["S3Client"]


@dataclass(slots=True, eq=False)
class _Open:
    client: Any
    stack: AsyncExitStack
    users: int = 0
    dropped: bool = False


class S3Client:
    """Lends out one client to any number of requests at a time."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._making = asyncio.Lock()
        self._open: _Open | None = None
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Any]:
        """The client, for one request; raises what botocore raises when it cannot be made.

        botocore keeps the credentials that it found first, or that it found none. When the
        request fails for its credentials, the next one gets a new client, which looks again.
        """
        async with self._making:
            if self._closed:
                raise RuntimeError("the store is closed")
            if self._open is None:
                self._open = await self._make()
            lent = self._open
        lent.users += 1
        try:
            yield lent.client
        except Exception as error:
            if is_credential_error(error):
                lent.dropped = True
                if self._open is lent:
                    self._open = None
            raise
        finally:
            lent.users -= 1
            if lent.dropped and not lent.users:
                await lent.stack.aclose()

    async def close(self) -> None:
        """Close all connections; requests that still run fail. Idempotent."""
        self._closed = True
        lent, self._open = self._open, None
        if lent:
            await lent.stack.aclose()

    async def _make(self) -> _Open:
        options = self._options
        session = AioSession(profile=options.profile or None)
        # Megabytes of JSON: read in a thread, and once for all clients of the process.
        loader = await asyncio.to_thread(_loader, session.get_config_variable("data_path"))
        session.register_component("data_loader", loader)
        stack = AsyncExitStack()
        context = session.create_client(
            "s3",
            region_name=options.region or None,
            endpoint_url=options.endpoint_url or None,
            config=_config(options),
        )
        try:
            return _Open(await stack.enter_async_context(context), stack)
        except ValueError as error:
            # botocore's own type for this, which it does not use here.
            raise InvalidEndpointConfigurationError(msg=str(error)) from error


@cache
def _loader(data_path: str | None) -> Any:
    """botocore's loader of service models, with all that an S3 client needs already loaded."""
    loader = create_loader(data_path)
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind)
    return loader


def _config(options: S3Options) -> AioConfig:
    plain_http = options.endpoint_url.startswith("http:")
    return AioConfig(
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        max_pool_connections=options.pool_size,
        # Retrying is the caller's: it backs off, and must know of every answer that was lost.
        retries={"total_max_attempts": 1, "mode": "standard"},
        # Trailing checksums are more than many S3-compatible servers understand.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": options.addressing,
            # TLS protects the body; hashing it for the signature as well would hold up the loop.
            "payload_signing_enabled": plain_http,
        },
    )
