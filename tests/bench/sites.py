"""The server of a benchmark, and plain requests to it with the client library of the store."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from hf_agent.clock import SystemClock, system_random
from hf_agent.store.base import ObjectInfo, Store
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.options import S3Options
from hf_agent.store.s3 import S3Store
from support.moto_s3 import running_moto
from support.s3_servers.minio import HOW_TO_GET_MINIO, find_minio, running_minio

__all__ = ["Site", "running_site"]

R = TypeVar("R")


class Site:
    """A place for containers, on an event loop of its own."""

    def __init__(self, url: str, options: S3Options | None) -> None:
        """An S3 server where there are `options`, else a directory."""
        self._url = url
        self._options = options
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack = AsyncExitStack()
        self._client: Any = None
        self._kept = self.store()

    def store(self) -> Store:
        """A store on it; close it."""
        bucket = self._url.partition("://")[2]
        if self._options is not None:
            return S3Store(bucket, options=self._options, clock=SystemClock())
        return DirectoryStore(Path(bucket), clock=SystemClock(), rng=system_random())

    def uri(self, key: str) -> str:
        """Of a container."""
        return f"{self._url}/{key}"

    @property
    def file_options(self) -> dict[str, Any]:
        """What `hyperfile.open` is told beside the URI."""
        if self._options is None:
            return {}
        return {"endpoint_url": self._options.endpoint_url, "addressing": "path"}

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Have the loop do it."""
        return self._runner.run(work)

    # -- plain requests --------------------------------------------------------------------------

    async def connect(self, connections: int) -> None:
        """Before any plain request. The client library as it comes, but for checksums that the
        store does not send either."""
        if self._options is None:
            return
        config = AioConfig(
            max_pool_connections=connections,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        )
        self._client = await self._stack.enter_async_context(
            get_session().create_client(
                "s3",
                region_name="us-east-1",
                endpoint_url=self._options.endpoint_url,
                config=config,
            )
        )

    async def plain_get(self, key: str, start: int, end: int) -> bytes:
        """Bytes `[start, end)` of an object."""
        if self._client is None:
            return (await self._kept.get(key, start=start, end=end)).data
        answer = await self._client.get_object(
            Bucket=self._bucket, Key=key, Range=f"bytes={start}-{end - 1}"
        )
        async with answer["Body"] as stream:
            data: bytes = await stream.read()
        assert len(data) == end - start
        return data

    async def plain_put(self, key: str, body: bytes) -> None:
        """Create an object."""
        if self._client is None:
            await self._kept.create(key, body)
            return
        await self._client.put_object(Bucket=self._bucket, Key=key, Body=body)

    @property
    def _bucket(self) -> str:
        return self._url.partition("://")[2]

    # -- what is there ---------------------------------------------------------------------------

    def objects(self, key: str) -> list[tuple[str, int]]:
        """Keys and sizes of a container's objects, in order, but for the inode."""

        async def listed() -> list[tuple[str, int]]:
            found = [
                (info.key, info.size)
                async for info in self._kept.list(f"{key}/")
                if isinstance(info, ObjectInfo) and not info.key.endswith("/inode")
            ]
            return sorted(found)

        return self.run(listed())

    def clear(self, prefix: str) -> None:
        """Delete everything whose key starts so."""

        async def delete() -> None:
            keys = [i.key async for i in self._kept.list(prefix) if isinstance(i, ObjectInfo)]
            for key in keys:
                await self._kept.delete(key)

        self.run(delete())

    async def _close(self) -> None:
        await self._stack.aclose()
        await self._kept.close()

    def close(self) -> None:
        """Close connections and the loop."""
        self.run(self._close())
        self._runner.close()


@contextmanager
def running_site(kind: str, folder: Path, connections: int) -> Iterator[Site]:
    """A server of that kind, with its data below `folder`: minio, moto or directory."""
    with _url_of(kind, folder) as (url, options):
        site = Site(url, options)
        try:
            site.run(site.connect(connections))
            yield site
        finally:
            site.close()


@contextmanager
def _url_of(kind: str, folder: Path) -> Iterator[tuple[str, S3Options | None]]:
    if kind == "directory":
        yield f"file://{folder.absolute()}", None
        return
    if kind == "moto":
        with running_moto() as moto:
            yield f"s3://{moto.make_bucket()}", moto.options()
        return
    binary = find_minio()
    if binary is None:
        sys.exit(HOW_TO_GET_MINIO)
    with running_minio(binary, folder) as server:
        yield f"s3://{server.make_bucket()}", server.options()
