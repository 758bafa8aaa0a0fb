"""Keeps botocore's search for a bucket's region from going round in circles.

An answer that redirects without naming a region makes botocore ask HEAD for the bucket, through the
same client; and when that is redirected likewise, as by a server that sends http to https, it asks
again, until Python's stack ends.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from botocore.exceptions import ClientError

__all__ = ["ask_for_region_once"]

_ASKING: ContextVar[bool] = ContextVar("asking for a bucket's region", default=False)


def ask_for_region_once(client: Any) -> None:
    """Let HEAD of a bucket, asked for while one is answered, end without a region."""
    head_bucket = client.head_bucket

    async def once(**named: Any) -> Any:
        if _ASKING.get():
            raise ClientError({"ResponseMetadata": {"HTTPHeaders": {}}}, "HeadBucket")
        token = _ASKING.set(True)
        try:
            return await head_bucket(**named)
        finally:
            _ASKING.reset(token)

    client.head_bucket = once
