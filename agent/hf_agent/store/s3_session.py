"""A botocore session as the options say: where credentials come from, and how requests go out.

Credentials come from botocore's default chain. Where it finds such as expire (web identity, pod
identity, container, instance, a process), botocore renews them before they do; so it does with the
role's, if one is to be assumed with what the chain has found.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import cache
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.credentials import (
    AioAssumeRoleCredentialFetcher,
    AioDeferredRefreshableCredentials,
    create_credential_resolver,
)
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.exceptions import InvalidConfigError, NoCredentialsError
from botocore.loaders import create_loader

from hf_agent.store.options import S3Options
from hf_agent.store.s3_http import HttpSession

__all__ = ["make_session", "s3_config"]

_ROLE_SESSION_NAME = "hf-agent"
"""What the logs of AWS call whoever has assumed the role."""


async def make_session(options: S3Options) -> AioSession:
    """A session; touches files, but not the network. Raises botocore's errors."""
    session = AioSession(profile=options.profile or None)
    # Megabytes of JSON: read in a thread, and once for all clients of the process.
    loader = await asyncio.to_thread(_loader, session.get_config_variable("data_path"))
    session.register_component("data_loader", loader)
    if options.ca_bundle:
        await asyncio.to_thread(_check_bundle, options.ca_bundle)
        session.set_config_variable("ca_bundle", options.ca_bundle)
    # For every client of the session: those that fetch credentials have the same bounds and ways.
    session.set_default_client_config(
        AioConfig(
            connect_timeout=options.connect_timeout,
            read_timeout=options.read_timeout,
            # Retrying is the caller's: it backs off, and must know of every answer that was lost.
            retries={"total_max_attempts": 1, "mode": "standard"},
            proxies={"http": options.proxy, "https": options.proxy} if options.proxy else None,
        )
    )
    if options.anonymous:
        session.register_component("credential_provider", _Nobody())
    elif options.access_key_id:
        session.set_credentials(
            options.access_key_id, options.secret_access_key, options.session_token or None
        )
    elif options.role_arn:
        session.register_component("credential_provider", _Role(session, options))
    return session


def s3_config(options: S3Options) -> AioConfig:
    """What an S3 client has beside what every client of the session has."""
    plain_http = options.endpoint_url.startswith("http:")
    return AioConfig(
        http_session_cls=HttpSession,
        max_pool_connections=options.pool_size,
        signature_version=UNSIGNED if options.anonymous else None,
        # Trailing checksums are more than many S3-compatible servers understand.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": options.addressing,
            # Like any other region, and not by the name that stands for all of them.
            "us_east_1_regional_endpoint": "regional",
            # TLS protects the body; hashing it for the signature as well would hold up the loop.
            "payload_signing_enabled": plain_http,
        },
    )


class _Nobody:
    """botocore's component "credential_provider", for requests that are not signed: the chain would
    be looked through, possibly over the network, for what is not used."""

    async def load_credentials(self) -> None:
        return None


class _Role:
    """botocore's component "credential_provider", for a role assumed with the chain's credentials.

    They are asked for anew, at the security token service, before they expire.
    """

    def __init__(self, session: AioSession, options: S3Options) -> None:
        self._session = session
        self._options = options

    async def load_credentials(self) -> AioDeferredRefreshableCredentials:
        region = self._options.region or None
        source = await create_credential_resolver(
            self._session, region_name=region
        ).load_credentials()
        if source is None:
            raise NoCredentialsError
        arguments = {"RoleSessionName": _ROLE_SESSION_NAME}
        if self._options.external_id:
            arguments["ExternalId"] = self._options.external_id

        def create_client(service: str, **named: Any) -> Any:
            return self._session.create_client(service, region_name=region, **named)

        fetcher = AioAssumeRoleCredentialFetcher(
            create_client, source, self._options.role_arn, extra_args=arguments, cache={}
        )
        return AioDeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")


@cache
def _loader(data_path: str | None) -> Any:
    """botocore's loader of service models, with all that an S3 client needs already loaded."""
    loader = create_loader(data_path)
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", kind)
    return loader


def _check_bundle(path: str) -> None:
    """Find out now what would later look like a server that cannot be reached."""
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise InvalidConfigError(
            error_msg=f"store.s3.ca_bundle cannot be used: {error} path={path}"
        ) from error
