"""S3 stores for tests, closed when the test is over, however it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.options import S3Options
from hf_agent.store.s3 import S3Store
from support.moto_s3 import CREDENTIALS

__all__ = ["credentials", "keep", "made_stores", "make"]

_made: list[S3Store] = []


def make(url: str, **options: Any) -> S3Store:
    """A store below `prefix` of `bucket` on the server at `url`."""
    named: dict[str, Any] = {"endpoint_url": url, "addressing": "path", "region": "us-east-1"}
    settings = S3Options(**(named | options))
    return keep(S3Store("bucket", "prefix", options=settings, clock=SystemClock()))


def keep(store: S3Store) -> S3Store:
    """Have `store` closed at the end of the test."""
    _made.append(store)
    return store


@pytest.fixture(autouse=True)
async def made_stores() -> AsyncIterator[None]:
    """Closes what `make` and `keep` were given."""
    yield
    while _made:
        await _made.pop().close()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials of the environment, and nothing of the machine's own."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
