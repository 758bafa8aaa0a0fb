"""Uploading one object in parts, with the condition on the request that completes it.

The object appears at that request, whole or not at all. An upload that fails is aborted; where even
that fails, or the process dies, its parts stay until `abort_uploads` at the next start, or a
lifecycle rule of the bucket (AbortIncompleteMultipartUpload), removes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hf_agent.store.base import StoreError
from hf_agent.store.buffers import Views, split_views, total_bytes
from hf_agent.store.options import S3Options
from hf_agent.store.s3_checksums import algorithm_name, checksum_params
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
    begin: Mapping[str, Any],
    options: S3Options,
    running: set[str],
) -> str:
    """Upload and complete, the latter as `operation`; returns the etag. Raises `StoreError`.

    `begin` are parameters of the request that begins. While it lasts, the upload's id is in
    `running`.
    """
    announced = algorithm_name(options.checksum)
    begun = await requests.call(
        "start_multipart", "create_multipart_upload", key, {**begin, **announced}
    )
    upload_id = begun["UploadId"]
    running.add(upload_id)
    try:
        parts = await _upload_parts(requests, key, upload_id, views, options)
        done = await requests.call(
            operation,
            "complete_multipart_upload",
            key,
            {"UploadId": upload_id, "MultipartUpload": {"Parts": parts}, **condition},
        )
    except BaseException:
        await _abort(requests, key, upload_id)
        raise
    finally:
        running.discard(upload_id)
    return etag_of(done)


async def _upload_parts(
    requests: S3Requests, key: str, upload_id: str, views: Views, options: S3Options
) -> list[dict[str, Any]]:
    """Upload all parts, some at a time; the first failure stops the others."""
    part_bytes = max(options.part_bytes, -(-total_bytes(views) // _MAX_PARTS))
    # An object of no bytes still is one part.
    runs = enumerate(split_views(views, part_bytes) if views else [[]], start=1)
    parts: dict[int, dict[str, Any]] = {}

    async def worker() -> None:
        for number, run in runs:
            checksum = await checksum_params(run, options.checksum)
            part = await requests.call(
                "upload_part",
                "upload_part",
                key,
                {"UploadId": upload_id, "PartNumber": number, **checksum},
                views=run,
            )
            parts[number] = {"PartNumber": number, "ETag": part["ETag"], **checksum}

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(options.part_concurrency):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [parts[number] for number in sorted(parts)]


async def _abort(requests: S3Requests, key: str, upload_id: str) -> None:
    try:
        async with asyncio.timeout(_ABORT_SECONDS):
            await requests.call(
                "abort_multipart", "abort_multipart_upload", key, {"UploadId": upload_id}
            )
    except (StoreError, TimeoutError):
        pass  # the failure that led here is the one to tell; a lifecycle rule removes the parts
