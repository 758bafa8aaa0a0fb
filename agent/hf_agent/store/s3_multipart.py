"""Uploading one object in parts, with the condition on the request that completes it.

The object appears at that request, whole or not at all. An upload that fails is aborted; where even
that fails, or the process dies, its parts stay until a lifecycle rule of the bucket
(AbortIncompleteMultipartUpload) removes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hf_agent.store.base import StoreError
from hf_agent.store.buffers import Views, split_views, total_bytes
from hf_agent.store.s3_requests import S3Requests, etag_of

__all__ = ["upload_in_parts"]

_MAX_PARTS = 10_000  # of S3
_ABORT_SECONDS = 30.0


async def upload_in_parts(
    requests: S3Requests,
    operation: str,
    key: str,
    views: Views,
    *,
    condition: Mapping[str, str],
    metadata: Mapping[str, str],
    part_bytes: int,
    concurrency: int,
) -> str:
    """Upload and complete, the latter as `operation`; returns the etag. Raises `StoreError`."""
    part_bytes = max(part_bytes, -(-total_bytes(views) // _MAX_PARTS))
    begun = await requests.call(
        "start_multipart", "create_multipart_upload", key, {"Metadata": dict(metadata)}
    )
    upload_id = begun["UploadId"]
    try:
        parts = await _upload_parts(requests, key, upload_id, views, part_bytes, concurrency)
        done = await requests.call(
            operation,
            "complete_multipart_upload",
            key,
            {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}, **condition},
        )
    except BaseException:
        await _abort(requests, key, upload_id)
        raise
    return etag_of(done)


async def _upload_parts(
    requests: S3Requests, key: str, upload_id: str, views: Views, part_bytes: int, concurrency: int
) -> list[dict[str, Any]]:
    """Upload all parts, `concurrency` at a time; the first failure stops the others."""
    runs = enumerate(split_views(views, part_bytes), start=1)
    etags: dict[int, str] = {}

    async def worker() -> None:
        for number, run in runs:
            part = await requests.call(
                "upload_part",
                "upload_part",
                key,
                {"UploadId": upload_id, "PartNumber": number},
                views=run,
            )
            etags[number] = part["ETag"]

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [{"PartNumber": number, "ETag": etags[number]} for number in sorted(etags)]


async def _abort(requests: S3Requests, key: str, upload_id: str) -> None:
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            await requests.call(
                "abort_multipart", "abort_multipart_upload", key, {"UploadId": upload_id}
            )
    except (StoreError, TimeoutError):
        pass  # the failure that led here is the one to tell; a lifecycle rule removes the parts
