"""What the options change in the requests that are sent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from crc32c import crc32c

import hf_agent.store.s3_checksums
from hf_agent.clock import SystemClock
from hf_agent.hyperfile.keys import INODE_SUFFIX
from hf_agent.store.base import StoreRetry
from hf_agent.store.options import MUTABLE_SUFFIX, S3Options, pool_size_for
from hf_agent.store.s3 import S3Store
from support.aws_front import aws_front
from support.http_stub import Answer, Recorded, StubServer, raw_server, stub_server
from support.moto_s3 import MotoS3, moto_s3, s3_bucket  # noqa: F401 - fixtures
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures

MIB = 1 << 20
OBJECT = {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
STARTED = b"<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>"
SEGMENT, INODE = "app/0000000001.0", "app/inode"


def respond(request: Recorded) -> Answer:
    if "uploads" in request.query:
        return Answer(body=STARTED)
    return Answer(body=COMPLETED) if request.method == "POST" else Answer(headers=OBJECT)


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        server.respond = respond
        yield server


def amazon(request: Recorded) -> dict[str, str]:
    """The headers of S3's own that choose something."""
    usual = ("x-amz-content-sha256", "x-amz-date", "x-amz-meta-")
    return {
        name: value
        for name, value in request.headers.items()
        if name.startswith("x-amz-") and not name.startswith(usual)
    }


# -- encryption and storage class ---------------------------------------------------------------

KMS = {"sse": "aws:kms", "sse_kms_key_id": "arn:key", "sse_bucket_key": True}
KMS_HEADERS = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "arn:key",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
}


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({}, {}),
        ({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}),
        ({"sse": "aws:kms"}, {"x-amz-server-side-encryption": "aws:kms"}),
        (KMS, KMS_HEADERS),
    ],
    ids=["bucket's default", "AES256", "aws:kms", "aws:kms with a key"],
)
async def test_every_write_asks_for_the_encryption(
    stub: StubServer, options: dict[str, Any], headers: dict[str, str]
) -> None:
    store = make(stub.url, multipart_threshold=100, **options)
    await store.create(SEGMENT, b"x")
    await store.replace(INODE, b"x", etag='"e"')
    await store.create(SEGMENT, bytes(101))
    small, inode, begun, part, completed = stub.requests
    for request in (small, inode, begun):
        assert amazon(request) == headers
    for request in (part, completed):  # which take it from the one that began
        assert amazon(request) == {}


async def test_segments_have_the_storage_class_and_the_inode_never(stub: StubServer) -> None:
    store = make(stub.url, multipart_threshold=100, storage_class="STANDARD_IA")
    await store.create(SEGMENT, b"x")
    await store.create(SEGMENT, bytes(101))
    await store.create(INODE, b"x")
    await store.replace(INODE, b"x", etag='"e"')
    classes = [request.headers.get("x-amz-storage-class") for request in stub.requests]
    assert classes == ["STANDARD_IA", "STANDARD_IA", None, None, None, None]
    assert MUTABLE_SUFFIX == INODE_SUFFIX


async def test_encryption_and_class_arrive(moto_s3: MotoS3, s3_bucket: str) -> None:  # noqa: F811
    options = moto_s3.options(sse="AES256", storage_class="STANDARD_IA", checksum="crc32c")
    store = keep(S3Store(s3_bucket, options=options, clock=SystemClock()))
    await store.create(SEGMENT, b"x")
    headers = (await store._requests.call("head", "head_object", SEGMENT, {}))["ResponseMetadata"]
    assert headers["HTTPHeaders"]["x-amz-storage-class"] == "STANDARD_IA"
    assert headers["HTTPHeaders"]["x-amz-server-side-encryption"] == "AES256"


# -- checksums ----------------------------------------------------------------------------------


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


SUMS: dict[str, Callable[[bytes], str]] = {
    "crc32": lambda data: b64(zlib.crc32(data).to_bytes(4, "big")),
    "crc32c": lambda data: b64(crc32c(data).to_bytes(4, "big")),
    "sha256": lambda data: b64(hashlib.sha256(data).digest()),
}


@pytest.mark.parametrize("algorithm", SUMS)
@pytest.mark.parametrize("nbytes", [0, 10, 400_000])
async def test_a_body_goes_with_its_checksum(stub: StubServer, algorithm: str, nbytes: int) -> None:
    data = bytes(range(256)) * (nbytes // 256) + bytes(nbytes % 256)
    store = make(stub.url, checksum=algorithm)
    await store.create("key", [data[:7], data[7:]])
    (request,) = stub.requests
    assert amazon(request) == {f"x-amz-checksum-{algorithm}": SUMS[algorithm](data)}
    assert request.body == data


@pytest.mark.parametrize("algorithm", SUMS)
async def test_each_part_goes_with_its_checksum_and_the_last_request_repeats_them(
    stub: StubServer, algorithm: str
) -> None:
    data = bytes(range(256)) * (7 * MIB // 256)
    store = make(stub.url, checksum=algorithm, multipart_threshold=MIB, part_bytes=5 * MIB)
    await store.create("key", data)
    begun, *parts, completed = stub.requests
    assert amazon(begun) == {"x-amz-checksum-algorithm": algorithm.upper()}
    for part in parts:
        assert amazon(part) == {f"x-amz-checksum-{algorithm}": SUMS[algorithm](part.body)}
        element = f"<Checksum{algorithm.upper()}>{SUMS[algorithm](part.body)}<"
        assert element.encode() in completed.body


async def test_a_checksum_is_computed_once_for_a_body_that_is_sent_twice(
    stub: StubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With renewed credentials, say."""
    computed = []

    def counting(views: list[memoryview]) -> bytes:
        computed.append(sum(view.nbytes for view in views))
        return bytes(4)

    monkeypatch.setitem(hf_agent.store.s3_checksums._ALGORITHMS, "crc32c", counting)
    expired = b"<Error><Code>ExpiredToken</Code></Error>"

    def once(request: Recorded) -> Answer:
        if len(stub.requests) == 1:
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
            return Answer(400, expired)
        return respond(request)

    stub.respond = once
    await make(stub.url, checksum="crc32c").create("key", bytes(100))
    assert len(stub.requests) == 2
    assert computed == [100]


@pytest.mark.parametrize("algorithm", SUMS)
async def test_a_server_that_checks_takes_them(
    moto_s3: MotoS3,  # noqa: F811
    s3_bucket: str,  # noqa: F811
    algorithm: Any,
) -> None:
    options = moto_s3.options(checksum=algorithm, multipart_threshold=5 * MIB)
    store = keep(S3Store(s3_bucket, options=options, clock=SystemClock()))
    for name, nbytes in (("small", 100), ("large", 9 * MIB)):
        await store.create(name, bytes(nbytes))
        assert (await store.get(name)).data == bytes(nbytes)


# -- the way to the server ----------------------------------------------------------------------


async def test_requests_go_through_the_proxy_and_trust_the_bundle(tmp_path: Path) -> None:
    async with aws_front(tmp_path) as front:
        front.stub.respond = respond
        store = make("", region="eu-west-1", addressing="auto", **front.options)
        await store.create("key", b"x")
        assert front.connected == ["bucket.s3.eu-west-1.amazonaws.com:443"]
        assert front.stub.requests[0].path == "/prefix/key"
        await store.close()


async def test_plain_http_goes_through_the_proxy_too(stub: StubServer) -> None:
    store = make("http://store.example:9000", proxy=stub.url)
    await store.create("key", b"x")
    assert stub.requests[0].headers["host"] == "store.example:9000"


async def test_a_proxy_that_is_away_may_come_back() -> None:
    store = make("", region="eu-west-1", addressing="auto", proxy="http://127.0.0.1:1")
    with pytest.raises(StoreRetry, match=r"is store\.s3\.proxy .* right, and up") as caught:
        await store.create("key", b"x")
    assert caught.value.code == "proxy"


async def test_a_request_is_given_up_when_it_takes_too_long_although_bytes_come() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nETag: "e"\r\n'
        writer.write(head + b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n")
        while not writer.is_closing():
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(drip) as url:
        store = make(url, read_timeout=5.0, request_timeout=0.3)
        with pytest.raises(StoreRetry, match=r"not done after request_timeout=0\.3s") as caught:
            await store.get("key")
        assert caught.value.code == "timeout"


@pytest.mark.parametrize(
    ("flushes", "parts", "size"), [(4, 4, 32), (1, 1, 32), (16, 4, 64), (256, 64, 256)]
)
def test_the_pool_has_room_for_all_parts_of_all_flushes_within_a_bound(
    flushes: int, parts: int, size: int
) -> None:
    assert pool_size_for(flushes, parts) == size


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"sse": "aes"}, "sse is one of '', 'AES256', 'aws:kms'"),
        ({"checksum": "md5"}, "checksum is one of"),
        ({"external_id": "x"}, "external_id means nothing without role_arn"),
        ({"sse": "AES256", "sse_kms_key_id": "k"}, "keys are for sse 'aws:kms' only"),
        ({"sse_bucket_key": True}, "keys are for sse 'aws:kms' only"),
        ({"request_timeout": 0}, "request_timeout must be above zero"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        S3Options(**options)
