"""The store on S3 and S3-compatible servers, on aiobotocore.

Every condition is one of S3's own (`If-None-Match: *`, `If-Match`): nothing is locked, and two
stores on one bucket need not know of each other. Requests are sent once; trying again is the
caller's. Whether a server honours the conditions is not checked here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from hf_agent.clock import Clock
from hf_agent.store.base import (
    Body,
    ObjectData,
    ObjectInfo,
    StoreError,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.buffers import Views, body_views, total_bytes
from hf_agent.store.observer import Observer, coded
from hf_agent.store.options import S3Options
from hf_agent.store.ranges import ByteRange
from hf_agent.store.s3_bucket import listing_prefix, write_params
from hf_agent.store.s3_checksums import checksum_params
from hf_agent.store.s3_multipart import upload_in_parts
from hf_agent.store.s3_requests import S3Requests, etag_of
from hf_agent.store.s3_uploads import abort_uploads

__all__ = ["S3Store"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Store:
    """A `Store` below a prefix of a bucket. Opens no connection before the first request."""

    supports_metadata = True

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        options: S3Options | None = None,
        clock: Clock,
        observer: Observer | None = None,
    ) -> None:
        self.bucket = bucket
        self.prefix = prefix.strip("/")
        self._base = f"{self.prefix}/" if self.prefix else ""
        self._options = options or S3Options()
        self._clock = clock
        self._requests = S3Requests(bucket, self._base, options=self._options, observer=observer)
        self._uploads: set[str] = set()

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        """See `Store.get`."""
        wanted = ByteRange(start, end, suffix)
        condition = {} if if_match is None else {"IfMatch": if_match}
        if wanted.is_empty:
            info = await self._head(key, condition)
            return ObjectData(info, b"", wanted.resolve(info.size)[0])
        ranged = {} if wanted.is_whole else {"Range": wanted.header}
        try:
            answer = await self._requests.call("get", "get_object", key, {**ranged, **condition})
        except StoreRefused as error:
            if error.code not in ("InvalidRange", "416"):
                raise
            info = await self._head(key, condition)
            offset, length = wanted.resolve(info.size)
            if length:
                message = f"the object changed while it was read {self._requests.where(key)}"
                raise coded(StoreRetry(message), "changed") from error
            return ObjectData(info, b"", offset)
        return self._data(key, wanted, answer)

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        return await self._head(key, {})

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`."""
        return await self._write("create", key, body, {"IfNoneMatch": "*"}, metadata)

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`."""
        return await self._write("replace", key, body, {"IfMatch": etag}, metadata)

    async def delete(self, key: str) -> None:
        """See `Store.delete`."""
        await self._requests.call("delete", "delete_object", key, {})

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`. One request gives up to 1,000 entries.

        In a directory bucket, a prefix that does not end in '/' costs a listing of the folder that
        it is in, and `delimiter` also gives folders in which uploads have only begun.
        """
        if delimiter not in ("", "/"):
            raise ValueError(f"the delimiter is '/' or nothing delimiter={delimiter!r}")
        wanted = self._base + prefix
        params = {"Prefix": listing_prefix(self.bucket, wanted)}
        if delimiter:
            params["Delimiter"] = delimiter
        cut = len(self._base)
        while True:
            page = await self._requests.call("list", "list_objects_v2", None, params)
            date = self._date(page)
            for common in page.get("CommonPrefixes", ()):
                if common["Prefix"].startswith(wanted):
                    yield common["Prefix"][cut:]
            for item in page.get("Contents", ()):
                if (key := item["Key"][cut:]) and item["Key"].startswith(wanted):
                    yield ObjectInfo(
                        key,
                        int(item["Size"]),
                        etag_of(item),
                        item["LastModified"].timestamp(),
                        date,
                        {},
                    )
            if not page.get("IsTruncated"):
                return
            if not (token := page.get("NextContinuationToken")):
                where = self._requests.where(None)
                raise coded(StoreRetry(f"the listing breaks off {where}"), "malformed")
            params["ContinuationToken"] = token

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`. Uploads of this store itself are left alone."""
        return await abort_uploads(
            self._requests,
            self.bucket,
            self._base,
            prefix,
            before=before,
            running=self._uploads,
            compatible=bool(self._options.endpoint_url),
        )

    async def create_in_parts(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """As `create`, as a multipart upload however small the body is."""
        return await self._upload("create", key, body_views(body), {"IfNoneMatch": "*"}, metadata)

    async def close(self) -> None:
        """See `Store.close`. Requests that still run fail."""
        await self._requests.close()

    async def _write(
        self,
        operation: str,
        key: str,
        body: Body,
        condition: Mapping[str, str],
        metadata: Mapping[str, str] | None,
    ) -> str:
        views = body_views(body)
        if total_bytes(views) > self._options.multipart_threshold:
            return await self._upload(operation, key, views, condition, metadata)
        checksum = await checksum_params(views, self._options.checksum)
        answer = await self._requests.call(
            operation,
            "put_object",
            key,
            {**self._begin(key, metadata), **checksum, **condition},
            views=views,
        )
        return etag_of(answer)

    async def _upload(
        self,
        operation: str,
        key: str,
        views: Views,
        condition: Mapping[str, str],
        metadata: Mapping[str, str] | None,
    ) -> str:
        return await upload_in_parts(
            self._requests,
            operation,
            key,
            views,
            condition=condition,
            begin=self._begin(key, metadata),
            options=self._options,
            running=self._uploads,
        )

    def _begin(self, key: str, metadata: Mapping[str, str] | None) -> dict[str, Any]:
        """What the request says that begins to write an object."""
        kind = write_params(self.bucket, self._base + key, self._options)
        return {"Metadata": dict(metadata or {}), **kind}

    async def _head(self, key: str, condition: Mapping[str, str]) -> ObjectInfo:
        try:
            answer = await self._requests.call("head", "head_object", key, condition)
        except StoreError as refusal:
            if refusal.code not in ("400", "403"):
                raise
            if not await self._readable(key, condition, refusal):
                raise
            answer = await self._requests.call("head", "head_object", key, condition)
        return self._info(key, int(answer["ContentLength"]), answer)

    async def _readable(self, key: str, condition: Mapping[str, str], refusal: StoreError) -> bool:
        """Whether GET works where HEAD was refused; raises what the refusal was about.

        The answer to a HEAD has no body that could say it. That to a GET tells expired credentials,
        a wrong clock and a missing right apart, and lets credentials be renewed.
        """
        try:
            await self._requests.call(
                "head", "get_object", key, {"Range": "bytes=0-0", **condition}
            )
        except StoreError as error:
            if error.code == "InvalidRange":  # the object is empty
                return True
            if not error.code or error.code.isdecimal():
                return False
            raise error from refusal
        return True

    def _data(self, key: str, wanted: ByteRange, answer: dict[str, Any]) -> ObjectData:
        data: bytes = answer["Body"]
        if found := _CONTENT_RANGE.fullmatch(answer.get("ContentRange", "")):
            offset, last, size = (int(group) for group in found.groups())
            expected = last + 1 - offset
        else:  # all of it: it was asked for, or the server does not do ranges
            offset, expected = 0, int(answer.get("ContentLength", len(data)))
            size = expected
        if len(data) != expected:
            where = f"expected={expected} got={len(data)} {self._requests.where(key)}"
            raise coded(StoreRetry(f"the answer was cut {where}"), "truncated")
        info = self._info(key, size, answer)
        if not offset and len(data) == size:
            offset, length = wanted.resolve(size)
            data = data[offset : offset + length]
        return ObjectData(info, data, offset)

    def _info(self, key: str, size: int, answer: dict[str, Any]) -> ObjectInfo:
        metadata = {name.lower(): value for name, value in answer.get("Metadata", {}).items()}
        modified = answer["LastModified"].timestamp()
        return ObjectInfo(key, size, etag_of(answer), modified, self._date(answer), metadata)

    def _date(self, answer: dict[str, Any]) -> float:
        """When the server answered, by its own clock; the local time when it does not say."""
        header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date", "")
        try:
            return parsedate_to_datetime(header).timestamp()
        except ValueError:
            return self._clock.time()
