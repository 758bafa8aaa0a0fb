"""Stores and containers as commands name them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from hf_agent.cli.failures import CommandError
from hf_agent.cli.settings import Settings
from hf_agent.clock import SystemClock, system_random
from hf_agent.config import S3, Flush, load
from hf_agent.hyperfile.errors import NoSuchContainer
from hf_agent.service.store_options import s3_options
from hf_agent.store.base import Store
from hf_agent.store.options import S3Options
from hf_agent.store.retrying import RetryingStore
from hf_agent.store.url import StoreUrlError, open_store, split_uri

__all__ = ["StoreAccess", "run_async", "store_access", "store_options"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """How to reach stores: see `store_options`."""

    options: S3Options

    @asynccontextmanager
    async def container(self, uri: str) -> AsyncIterator[tuple[Store, str]]:
        """The store in which the container `uri` is, and its key there."""
        try:
            root, key = split_uri(uri)
        except StoreUrlError as error:
            raise click.UsageError(str(error)) from error
        async with self.store(root) as store:
            try:
                yield store, key
            except NoSuchContainer as error:
                raise CommandError(
                    f"no container here: it has no inode object uri={uri}"
                ) from error

    @asynccontextmanager
    async def store(self, url: str) -> AsyncIterator[Store]:
        """The store at `url`."""
        clock, rng = SystemClock(), system_random()
        try:
            store = RetryingStore(
                open_store(url, options=self.options, clock=clock, rng=rng),
                clock=clock,
                rng=rng,
            )
        except StoreUrlError as error:
            raise click.UsageError(str(error)) from error
        try:
            yield store
        finally:
            await store.close()


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `store_access` takes."""
    for option in (
        click.option(
            "--config",
            type=click.Path(),
            metavar="FILE",
            help="Take the S3 options from this file.",
        ),
        click.option("--endpoint-url", metavar="URL", help="Of an S3-compatible server."),
        click.option("--region", help="Of the bucket."),
    ):
        command = option(command)
    return command


def store_access(given: dict[str, Any]) -> StoreAccess:
    """Access as the command's options say, and the configuration that they name."""
    settings = click.get_current_context().find_object(Settings)
    path = given["config"] or (settings.config if settings else None)
    if path:
        config = load(path)
        options = s3_options(config.store.s3, config.flush)
    else:
        options = s3_options(S3(), Flush())
    return StoreAccess(
        replace(
            options,
            region=given["region"] or options.region,
            endpoint_url=given["endpoint_url"] or options.endpoint_url,
        )
    )


def run_async(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a command's asynchronous part."""
    return asyncio.run(work)
