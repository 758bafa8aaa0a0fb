"""The rules of directory buckets hold in the layer: a client that breaks one is refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreConflict, StoreNotFound, StoreRefused, StoreRetry
from hf_agent.store.s3 import S3Store
from support.moto_s3 import MotoS3, moto_s3
from support.s3_servers.directory_sessions import Sessions
from support.s3_servers.minio import Minio, minio
from support.s3_servers.servers import DirectoryBucketServer, serve_directory_buckets

__all__ = ["minio", "moto_s3"]

MIB = 1 << 20
HOUR = 3600.0


@pytest.fixture
def server(moto_s3: MotoS3) -> Iterator[DirectoryBucketServer]:
    with serve_directory_buckets(moto_s3, Sessions(SystemClock(), lifetime=HOUR)) as server:
        yield server


@asynccontextmanager
async def opened(server: DirectoryBucketServer, **options: Any) -> AsyncIterator[S3Store]:
    """A store on a new bucket."""
    options = {"multipart_threshold": 5 * MIB, "part_bytes": 5 * MIB, **options}
    store = S3Store(
        server.make_bucket(), "p", options=server.options(**options), clock=SystemClock()
    )
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def raw_client(server: DirectoryBucketServer) -> AsyncIterator[Any]:
    """A client of botocore's, to send what the store does not."""
    config = AioConfig(
        retries={"total_max_attempts": 1}, request_checksum_calculation="when_required"
    )
    making = get_session().create_client(
        "s3", region_name="us-west-2", endpoint_url=server.endpoint_url, config=config
    )
    async with making as client:
        yield client


async def refused(call: Any) -> tuple[int, str]:
    """Status and code of the refusal that a call of the raw client meets."""
    with pytest.raises(ClientError) as caught:
        await call
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


# -- sessions ---------------------------------------------------------------------------------


async def test_one_session_serves_many_requests(server: DirectoryBucketServer) -> None:
    async with opened(server) as store:
        etag = await store.create("key", b"x")
        await store.replace("key", b"y", etag=etag)
        assert (await store.get("key")).data == b"y"
    assert server.sessions.created == 1


async def test_without_a_session_nothing_is_allowed(
    server: DirectoryBucketServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_S3_DISABLE_EXPRESS_SESSION_AUTH", "true")
    async with opened(server) as store:
        with pytest.raises(StoreRefused, match="a session token is required"):
            await store.create("key", b"x")
        with pytest.raises(StoreRefused):
            await store.get("key")
    assert server.sessions.created == 0


async def test_a_session_of_another_bucket_is_refused(server: DirectoryBucketServer) -> None:
    one, other = server.make_bucket(), server.make_bucket()
    async with raw_client(server) as client:
        await client.put_object(Bucket=one, Key="key", Body=b"x")

        def take_the_session_of_one(request: Any, **kwargs: Any) -> None:
            request.context["signing"]["cache_key"] = one

        client.meta.events.register_last("before-sign.s3", take_the_session_of_one)
        sent = client.put_object(Bucket=other, Key="key", Body=b"x")
        assert await refused(sent) == (400, "InvalidToken")


async def test_a_session_that_has_ended_is_refused_once_and_the_store_makes_another(
    server: DirectoryBucketServer,
) -> None:
    async with opened(server) as store:
        await store.create("key", b"x")
        server.sessions.end_all()
        try:
            got = await store.get("key")
        except StoreRetry as error:
            assert error.code == "ExpiredToken"
            got = await store.get("key")
        assert got.data == b"x"
    assert (server.sessions.created, server.sessions.expired) == (2, 1)


async def test_a_session_is_renewed_before_it_ends(moto_s3: MotoS3) -> None:
    # botocore renews in the last 45 seconds: here before every request.
    sessions = Sessions(SystemClock(), lifetime=30.0)
    with serve_directory_buckets(moto_s3, sessions) as server:
        async with opened(server) as store:
            etag = await store.create("key", b"0")
            for number in range(5):
                etag = await store.replace("key", b"%d" % number, etag=etag)
    assert sessions.created >= 6
    assert sessions.expired == 0


async def test_a_session_that_lasts_less_than_was_said_costs_tries_only(moto_s3: MotoS3) -> None:
    sessions = Sessions(SystemClock(), lifetime=0.2, announced=HOUR)
    with serve_directory_buckets(moto_s3, sessions) as server:
        async with opened(server) as store:
            for number in range(300):
                try:
                    await store.create(f"key-{number}", b"x")
                except StoreRetry as error:
                    assert error.code == "ExpiredToken"
                if sessions.created > 3:
                    break
    assert sessions.created > 3
    assert sessions.expired >= 3


async def test_a_bucket_of_the_other_kind_is_not_there(server: DirectoryBucketServer) -> None:
    bucket = server.backend.make_bucket()
    async with raw_client(server) as client:
        sent = client.put_object(Bucket=bucket, Key="key", Body=b"x")
        assert await refused(sent) == (404, "NoSuchBucket")


# -- etags ------------------------------------------------------------------------------------


async def test_etags_say_nothing_of_the_content(server: DirectoryBucketServer) -> None:
    async with opened(server) as store:
        first = await store.create("one", b"same")
        second = await store.create("two", b"same")
        again = await store.replace("one", b"same", etag=first)
        assert len({first, second, again}) == 3
        assert hashlib.md5(b"same").hexdigest() not in first
        with pytest.raises(StoreConflict):
            await store.replace("one", b"other", etag=first)
        with pytest.raises(StoreConflict):
            await store.get("one", if_match=first)
        assert (await store.get("one", if_match=again)).info.etag == again
        assert (await store.head("one")).etag == again
        listed = {item.key: item.etag async for item in store.list() if not isinstance(item, str)}
        assert listed == {"one": again, "two": second}


async def test_etags_of_uploads_in_parts_are_opaque_too(server: DirectoryBucketServer) -> None:
    async with opened(server) as store:
        data = random.Random(1).randbytes(6 * MIB)
        first = await store.create("large", data)
        second = await store.replace("large", data, etag=first)
        assert "-" not in first
        assert first != second
        with pytest.raises(StoreConflict):
            await store.replace("large", data, etag=first)
        with pytest.raises(StoreNotFound):
            await store.replace("gone", data, etag=first)
        got = await store.get("large", if_match=second)
        assert (got.data, got.info.etag) == (data, second)


# -- listings ---------------------------------------------------------------------------------


async def test_a_listing_has_no_order_and_several_pages(server: DirectoryBucketServer) -> None:
    keys = [f"p/{number:02d}" for number in range(40)]
    async with opened(server) as store:
        for key in keys:
            await store.create(key.removeprefix("p/"), b"")
    found: list[str] = []
    pages = 0
    async with raw_client(server) as client:
        page = await client.list_objects_v2(Bucket=store.bucket)
        while True:
            pages += 1
            found += [item["Key"] for item in page["Contents"]]
            if not page["IsTruncated"]:
                break
            token = page["NextContinuationToken"]
            assert token not in keys
            page = await client.list_objects_v2(Bucket=store.bucket, ContinuationToken=token)
    assert sorted(found) == keys
    assert found != keys
    assert pages > 2


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"Prefix": "a"}, "InvalidRequest"),
        ({"Prefix": "a/b"}, "InvalidRequest"),
        ({"Delimiter": "-"}, "InvalidRequest"),
        ({"StartAfter": "a"}, "NotImplemented"),
        ({"OptionalObjectAttributes": ["RestoreStatus"]}, "NotImplemented"),
    ],
    ids=str,
)
async def test_a_listing_that_they_do_not_know_is_refused(
    server: DirectoryBucketServer, asked: dict[str, Any], code: str
) -> None:
    bucket = server.make_bucket()
    async with raw_client(server) as client:
        assert (await refused(client.list_objects_v2(Bucket=bucket, **asked)))[1] == code
        assert (await client.list_objects_v2(Bucket=bucket, Prefix="a/"))["KeyCount"] == 0


async def test_older_listings_are_refused(server: DirectoryBucketServer) -> None:
    bucket = server.make_bucket()
    async with raw_client(server) as client:
        assert (await refused(client.list_objects(Bucket=bucket)))[1] == "NotSupported"
        assert (await refused(client.list_object_versions(Bucket=bucket)))[1] == "NotImplemented"
        unfinished = client.list_multipart_uploads(Bucket=bucket, Prefix="a")
        assert (await refused(unfinished))[1] == "InvalidRequest"


async def test_prefixes_of_uploads_in_progress_are_listed(server: DirectoryBucketServer) -> None:
    bucket = server.make_bucket()

    async def prefixes() -> list[str]:
        page = await client.list_objects_v2(Bucket=bucket, Delimiter="/")
        return [found["Prefix"] for found in page.get("CommonPrefixes", [])]

    async with raw_client(server) as client:
        begun = await client.create_multipart_upload(Bucket=bucket, Key="a/b/c")
        assert await prefixes() == ["a/"]
        await client.abort_multipart_upload(Bucket=bucket, Key="a/b/c", UploadId=begun["UploadId"])
        assert await prefixes() == []


# -- writes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        {"ACL": "private"},
        {"GrantRead": "id=1"},
        {"Tagging": "a=b"},
        {"StorageClass": "STANDARD"},
        {"StorageClass": "INTELLIGENT_TIERING"},
        {"ServerSideEncryption": "aws:kms"},
        {"ServerSideEncryption": "aws:kms:dsse"},
        {"SSEKMSKeyId": "key"},
        {"BucketKeyEnabled": True},
        {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32},
        {"ContentMD5": "XrY7u+Ae7tCTyyK7j1rNww=="},
        {"WebsiteRedirectLocation": "/x"},
        {"RequestPayer": "requester"},
        {"ObjectLockLegalHoldStatus": "ON"},
    ],
    ids=str,
)
async def test_a_header_that_they_do_not_know_is_refused(
    server: DirectoryBucketServer, header: dict[str, Any]
) -> None:
    bucket = server.make_bucket()
    async with raw_client(server) as client:
        sent = client.put_object(Bucket=bucket, Key="key", Body=b"hello world", **header)
        assert await refused(sent) == (501, "NotImplemented")
        assert "Contents" not in await client.list_objects_v2(Bucket=bucket)


async def test_what_they_do_know_is_taken(server: DirectoryBucketServer) -> None:
    bucket = server.make_bucket()
    async with raw_client(server) as client:
        await client.put_object(
            Bucket=bucket,
            Key="key",
            Body=b"x",
            StorageClass="EXPRESS_ONEZONE",
            ServerSideEncryption="AES256",
            ChecksumAlgorithm="CRC32",
            Metadata={"hf-write": "01"},
        )
        head = await client.head_object(Bucket=bucket, Key="key")
        assert head["Metadata"] == {"hf-write": "01"}
        versioned = client.get_object(Bucket=bucket, Key="key", VersionId="3")
        assert await refused(versioned) == (501, "NotImplemented")


async def test_parts_are_numbered_from_one_without_gaps(server: DirectoryBucketServer) -> None:
    bucket = server.make_bucket()
    async with raw_client(server) as client:
        begun = await client.create_multipart_upload(Bucket=bucket, Key="key")
        named = {"Bucket": bucket, "Key": "key", "UploadId": begun["UploadId"]}
        etags = {
            number: (await client.upload_part(**named, PartNumber=number, Body=b"x"))["ETag"]
            for number in (1, 3)
        }
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags.items()]
        for wrong in (parts, parts[1:]):
            sent = client.complete_multipart_upload(**named, MultipartUpload={"Parts": wrong})
            assert await refused(sent) == (400, "InvalidPartOrder")
        forged = [{"PartNumber": 1, "ETag": hashlib.md5(b"x").hexdigest()}]
        sent = client.complete_multipart_upload(**named, MultipartUpload={"Parts": forged})
        assert (await refused(sent))[1] == "InvalidPart"
        await client.complete_multipart_upload(**named, MultipartUpload={"Parts": parts[:1]})


async def test_requests_are_signed_anew_for_a_server_that_checks_it(minio: Minio) -> None:
    with serve_directory_buckets(minio, Sessions(SystemClock(), lifetime=HOUR)) as server:
        async with opened(server) as store:
            etag = await store.create("with space/+", b"x", metadata={"hf-write": "01 2"})
            assert (await store.head("with space/+")).metadata == {"hf-write": "01 2"}
            assert (await store.get("with space/+", if_match=etag)).data == b"x"
