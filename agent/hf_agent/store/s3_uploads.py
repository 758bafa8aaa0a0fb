"""Multipart uploads that nobody will finish: those that a process left when it died.

Their parts are stored, and charged, until somebody aborts them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any

from hf_agent.store.base import StoreRetry
from hf_agent.store.observer import coded
from hf_agent.store.s3_bucket import is_directory_bucket, listing_prefix
from hf_agent.store.s3_requests import S3Requests

__all__ = ["abort_uploads"]


async def abort_uploads(
    requests: S3Requests,
    bucket: str,
    base: str,
    prefix: str,
    *,
    before: float,
    running: Collection[str],
    compatible: bool,
) -> int:
    """Abort uploads of keys below `base` that start with `prefix`; returns how many.

    Only those begun before `before`, in Unix seconds by the server's clock, and not in `running`.
    `compatible`: the server is not AWS's, and may list uploads only by a whole key or none (MinIO).
    Raises the store's errors.
    """
    aborted = 0
    async for upload in _uploads(requests, bucket, base + prefix, compatible):
        key, upload_id = str(upload["Key"]), str(upload["UploadId"])
        begun: datetime = upload["Initiated"]
        if not key.startswith(base + prefix) or upload_id in running or begun.timestamp() >= before:
            continue
        try:
            await requests.call(
                "abort_multipart",
                "abort_multipart_upload",
                key.removeprefix(base),
                {"UploadId": upload_id},
            )
        except StoreRetry as error:
            if error.code != "NoSuchUpload":
                raise
        else:
            aborted += 1
    return aborted


async def _uploads(
    requests: S3Requests, bucket: str, prefix: str, compatible: bool
) -> AsyncIterator[dict[str, Any]]:
    """Every unfinished upload whose key starts with `prefix`, and maybe others."""
    found = False
    async for upload in _listed(requests, bucket, listing_prefix(bucket, prefix)):
        found = True
        yield upload
    if compatible and prefix and not found:
        async for upload in _listed(requests, bucket, ""):
            yield upload


async def _listed(requests: S3Requests, bucket: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
    params: dict[str, Any] = {"Prefix": prefix}
    while True:
        page = await requests.call("list_multipart", "list_multipart_uploads", None, params)
        for upload in page.get("Uploads", ()):
            yield upload
        if not page.get("IsTruncated"):
            return
        markers = {"KeyMarker": page.get("NextKeyMarker", "")}
        if not is_directory_bucket(bucket):  # which have no other marker
            markers["UploadIdMarker"] = page.get("NextUploadIdMarker", "")
        if not any(markers.values()) or markers.items() <= params.items():
            message = f"the listing of uploads does not go on {requests.where(None)}"
            raise coded(StoreRetry(message), "malformed")
        params |= markers
