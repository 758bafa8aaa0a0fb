"""One S3 request: within its bounds, observed, its failures turned into store errors."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hf_agent.store.base import StoreRetry
from hf_agent.store.buffers import Views
from hf_agent.store.observer import Observer, Request, coded, limited
from hf_agent.store.options import S3Options
from hf_agent.store.s3_body import request_body
from hf_agent.store.s3_bucket import is_directory_bucket
from hf_agent.store.s3_client import S3Client
from hf_agent.store.s3_errors import KNOWN_ERRORS, s3_error
from hf_agent.store.s3_signing import hash_for_signature

__all__ = ["S3Requests", "etag_of"]

_PROMISED = {
    "get_object": ("ETag", "LastModified"),
    "head_object": ("ETag", "LastModified", "ContentLength"),
    "put_object": ("ETag",),
    "create_multipart_upload": ("UploadId",),
    "upload_part": ("ETag",),
    "complete_multipart_upload": ("ETag",),
}
"""What an answer has to contain; without it, something else than S3 has answered."""


class S3Requests:
    """Sends requests for the keys below `base` ("" or ending in '/') of a bucket.

    At most `options.pool_size` run at one time; waiting for a free place is not observed.
    """

    def __init__(
        self, bucket: str, base: str, *, options: S3Options, observer: Observer | None
    ) -> None:
        self._bucket = bucket
        self._base = base
        self._observer = limited(observer)
        self._client = S3Client(options, sessions=is_directory_bucket(bucket))
        self._patience = options.connect_timeout + options.read_timeout
        self._request_timeout = options.request_timeout
        self._plain_http = options.endpoint_url.startswith("http:")
        self._slots = asyncio.Semaphore(options.pool_size)

    async def call(
        self,
        operation: str,
        method: str,
        key: str | None,
        params: Mapping[str, Any],
        *,
        views: Views | None = None,
    ) -> dict[str, Any]:
        """Send one request; returns botocore's answer with its body, if any, read to the end.

        `operation` is what the observer is told, `method` the name of botocore's method, `views`
        the request's body. Raises only `StoreError`, or `RuntimeError` after `close`.
        """
        named = {} if key is None else {"Key": self._base + key}
        async with self._slots:
            with Request(self._observer, operation):
                try:
                    answer = await self._send(method, {**named, **params}, views)
                except KNOWN_ERRORS as error:
                    raise s3_error(error, operation, self.where(key)) from error
                if missing := [name for name in _PROMISED.get(method, ()) if name not in answer]:
                    reason = f"the answer is not one of S3: it lacks {missing[0]}"
                    advice = "does something stand between here and the server?"
                    message = f"{operation} failed: {reason}; {advice} {self.where(key)}"
                    raise coded(StoreRetry(message), "malformed")
                return answer

    def where(self, key: str | None) -> str:
        """The place of a key as `key=value` pairs for messages."""
        place = f"bucket={self._bucket}"
        return place if key is None else f"{place} key={self._base + key!r}"

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await self._client.close()

    async def _send(
        self, method: str, params: dict[str, Any], views: Views | None
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._request_timeout) as whole:
                return await self._client.run(
                    lambda client: self._exchange(client, method, params, views)
                )
        except TimeoutError as error:
            if whole.expired():
                limit = f"{self._request_timeout:g}s"
                raise TimeoutError(f"not done after request_timeout={limit}") from error
            raise

    async def _exchange(
        self, client: Any, method: str, params: dict[str, Any], views: Views | None
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(None) as stalled:
                body: dict[str, Any] = {}
                if views is not None:
                    # aiohttp's own timeouts begin when the whole body is written: one that the
                    # server does not take would wait for ever.
                    now = asyncio.get_running_loop().time

                    def progress() -> None:
                        stalled.reschedule(now() + self._patience)

                    progress()
                    body["Body"] = request_body(views, progress)
                    if self._plain_http:
                        await hash_for_signature(body["Body"])
                        progress()
                answer: dict[str, Any] = await getattr(client, method)(
                    Bucket=self._bucket, **params, **body
                )
                if method == "get_object":
                    async with answer["Body"] as stream:
                        answer["Body"] = await stream.read()
                return answer
        except TimeoutError as error:
            if stalled.expired():
                raise TimeoutError(
                    f"nothing of the body was taken for {self._patience:g}s"
                ) from error
            raise


def etag_of(answer: Mapping[str, Any]) -> str:
    """The etag of an answer in quotes, as `If-Match` wants it; some servers leave them out."""
    etag = str(answer["ETag"])
    return etag if etag.endswith('"') else f'"{etag}"'
