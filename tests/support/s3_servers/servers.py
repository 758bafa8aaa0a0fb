"""The S3 servers that tests are run over, under one face, and each of them behind faults."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.options import S3Options
from support.moto_s3 import MotoS3, moto_s3
from support.s3_servers.directory_bucket import DirectoryBuckets
from support.s3_servers.directory_sessions import Sessions
from support.s3_servers.fault_proxy import Breakpoint, FaultHandler
from support.s3_servers.faults import FaultPlan
from support.s3_servers.minio import Minio, minio
from support.s3_servers.proxy import Backend, HttpProxy
from support.s3_servers.signing import signed_again

__all__ = [
    "DirectoryBucketServer",
    "S3Server",
    "behind_faults",
    "directory_buckets",
    "directory_buckets_on_minio",
    "minio",
    "moto_s3",
    "serve_directory_buckets",
]


class S3Server(Protocol):
    """A server that is running."""

    @property
    def endpoint_url(self) -> str:
        """Where it listens."""
        ...

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a process that uses it."""
        ...

    def options(self, **changes: Any) -> S3Options:
        """Options for a store on it."""
        ...

    def make_bucket(self) -> str:
        """A new, empty bucket; returns its name."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryBucketServer:
    """Directory buckets in front of another server."""

    endpoint_url: str
    backend: MotoS3 | Minio
    sessions: Sessions

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a process that uses the server."""
        return self.backend.env

    def options(self, **changes: Any) -> S3Options:
        """Options for a store on this server."""
        return replace(self.backend.options(**changes), endpoint_url=self.endpoint_url)

    def make_bucket(self) -> str:
        """Create a directory bucket under a name of its own; returns the name."""
        return self.backend.make_bucket(f"test-{uuid.uuid4().hex[:12]}--usw2-az1--x-s3")


@dataclass(frozen=True, slots=True)
class _Faulty:
    """A server with faults between it and its clients."""

    endpoint_url: str
    behind: S3Server

    @property
    def env(self) -> dict[str, str]:
        return self.behind.env

    def options(self, **changes: Any) -> S3Options:
        return replace(self.behind.options(**changes), endpoint_url=self.endpoint_url)

    def make_bucket(self) -> str:
        return self.behind.make_bucket()


@contextmanager
def behind_faults(
    server: S3Server,
    plan: FaultPlan,
    *,
    stall: float = 30.0,
    breakpoint: Breakpoint | None = None,
    spared: str = "",
) -> Iterator[S3Server]:
    """`server` as it is reached through a fault proxy; see `FaultHandler`."""
    handler = FaultHandler(
        Backend(server.endpoint_url), plan, stall=stall, breakpoint=breakpoint, spared=spared
    )
    with HttpProxy(handler) as proxy, ExitStack() as stack:
        if breakpoint is not None:
            stack.callback(breakpoint.go_on)
        yield _Faulty(proxy.url, server)


@contextmanager
def serve_directory_buckets(
    backend: MotoS3 | Minio, sessions: Sessions
) -> Iterator[DirectoryBucketServer]:
    """Directory buckets on `backend`."""
    handler = DirectoryBuckets(
        Backend(backend.endpoint_url),
        sessions,
        sign=lambda request: signed_again(request, backend.endpoint_url),
    )
    with HttpProxy(handler) as proxy:
        yield DirectoryBucketServer(proxy.url, backend, sessions)


def _short_sessions() -> Sessions:
    """botocore renews a session in its last 45 seconds: these, from their third second on."""
    return Sessions(SystemClock(), lifetime=48.0)


@pytest.fixture(scope="session")
def directory_buckets(moto_s3: MotoS3) -> Iterator[DirectoryBucketServer]:
    """Directory buckets on moto, for all tests of the run."""
    with serve_directory_buckets(moto_s3, _short_sessions()) as server:
        yield server


@pytest.fixture(scope="session")
def directory_buckets_on_minio(minio: Minio) -> Iterator[DirectoryBucketServer]:
    """Directory buckets on MinIO, which checks the signatures that the layer makes."""
    with serve_directory_buckets(minio, _short_sessions()) as server:
        yield server
