"""What each way in which S3 can fail means to the caller."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import (
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.options import S3Options
from hf_agent.store.s3 import S3Store
from support.http_stub import Answer, Recorded, StubServer, raw_server, stub_server
from support.moto_s3 import CREDENTIALS, MotoS3, moto_s3  # noqa: F401 - a fixture
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        yield server


def failure(status: int, code: str) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>Some words.</Message></Error>"
    return Answer(status, body.encode(), {"x-amz-request-id": "R1"})


ANSWERS: list[tuple[int, str, type[StoreError]]] = [
    (404, "NoSuchKey", StoreNotFound),
    (404, "NoSuchBucket", StoreRefused),
    (404, "NoSuchUpload", StoreRetry),
    (412, "PreconditionFailed", StoreConflict),
    (409, "ConditionalRequestConflict", StoreRetry),
    (409, "OperationAborted", StoreRetry),
    (429, "TooManyRequests", StoreRetry),
    (400, "RequestTimeout", StoreRetry),
    (400, "ExpiredToken", StoreRetry),
    (400, "TokenRefreshRequired", StoreRetry),
    (400, "BadDigest", StoreRetry),
    (403, "RequestTimeTooSkewed", StoreRetry),
    (500, "InternalError", StoreRetry),
    (502, "BadGateway", StoreRetry),
    (503, "SlowDown", StoreRetry),
    (503, "ServiceUnavailable", StoreRetry),
    (507, "XMinioStorageFull", StoreRetry),
    (403, "AccessDenied", StoreRefused),
    (403, "InvalidAccessKeyId", StoreRefused),
    (403, "SignatureDoesNotMatch", StoreRefused),
    (403, "SomethingNew", StoreRefused),
    (400, "InvalidArgument", StoreRefused),
    (405, "MethodNotAllowed", StoreRefused),
    (501, "NotImplemented", StoreRefused),
]


@pytest.mark.parametrize(("status", "code", "kind"), ANSWERS, ids=str)
async def test_an_error_answer_has_its_meaning_for_reads_and_writes(
    stub: StubServer, status: int, code: str, kind: type[StoreError]
) -> None:
    stub.respond = lambda request: failure(status, code)
    store = make(stub.url)
    for operation in (
        store.get("key"),
        store.create("key", b"x"),
        store.replace("key", b"x", etag='"e"'),
        store.delete("key"),
    ):
        with pytest.raises(kind) as caught:
            await operation
        text = str(caught.value)
        assert type(caught.value) is kind
        assert text.endswith(f"key='prefix/key' code={code} status={status} request_id=R1")
        assert caught.value.code == code
        assert caught.value.__cause__ is not None
    assert len(stub.requests) == 4  # each was sent once: trying again is the caller's


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, StoreRetry),  # how AWS answers a HEAD with expired credentials
        (403, StoreRefused),
        (404, StoreNotFound),
        (412, StoreConflict),
        (429, StoreRetry),
        (500, StoreRetry),
        (503, StoreRetry),
    ],
)
async def test_a_head_is_judged_by_its_status(
    stub: StubServer, status: int, kind: type[StoreError]
) -> None:
    stub.respond = lambda request: Answer(status)
    store = make(stub.url)
    with pytest.raises(kind, match=f"status={status}") as caught:
        await store.head("key")
    assert type(caught.value) is kind
    assert caught.value.code == str(status)


async def test_an_error_within_a_200_is_an_error(stub: StubServer) -> None:
    """S3 begins its answer to a completed upload before it knows how that ends."""

    code = ""

    def respond(request: Recorded) -> Answer:
        if "uploads" in request.query:
            name = b"InitiateMultipartUploadResult>"
            return Answer(body=b"<" + name + b"<UploadId>U</UploadId></" + name)
        if request.method == "PUT":
            return Answer(headers={"ETag": '"part"'})
        if request.method == "DELETE":
            return Answer(204)
        return Answer(body=failure(200, code).body)

    stub.respond = respond
    store = make(stub.url, multipart_threshold=100)
    code = "InternalError"
    with pytest.raises(StoreRetry):
        await store.create("key", bytes(101))
    code = "PreconditionFailed"
    with pytest.raises(StoreConflict):
        await store.create("key", bytes(101))
    assert [request.method for request in stub.requests] == ["POST", "PUT", "POST", "DELETE"] * 2


@pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"not xml at all", b""])
async def test_a_proxys_error_page_may_pass(stub: StubServer, body: bytes) -> None:
    stub.respond = lambda request: Answer(502, body)
    store = make(stub.url)
    for operation in (store.get("key"), store.create("key", b"x")):
        with pytest.raises(StoreRetry):
            await operation


async def test_a_page_of_something_else_may_pass(stub: StubServer) -> None:
    """A captive portal, say: status 200, and no listing in it."""
    stub.respond = lambda request: Answer(200, b"<html><p>Sign in<br></html>")
    store = make(stub.url)
    with pytest.raises(StoreRetry):
        async for _ in store.list():
            pass


async def test_a_server_that_is_not_there_may_come() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        store = make(f"http://127.0.0.1:{unused.getsockname()[1]}")
        for operation in (
            store.get("key"),
            store.head("key"),
            store.create("key", b"x"),
            store.create("key", bytes(1 << 20)),
            store.delete("key"),
        ):
            with pytest.raises(StoreRetry, match="is the server up and reachable"):
                await operation


async def test_an_answer_that_does_not_come_is_given_up(stub: StubServer) -> None:
    over = asyncio.Event()
    stub.respond = lambda request: Answer(wait=over.wait)
    store = make(stub.url, read_timeout=0.2)
    with pytest.raises(StoreRetry):
        await store.get("key")
    with pytest.raises(StoreRetry):
        await store.create("key", b"x")
    over.set()


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["silent", "stalled"])
async def test_a_body_that_is_not_taken_is_given_up(head: bytes) -> None:
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        await over.wait()

    async with raw_server(serve) as url:
        store = make(url, connect_timeout=0.2, read_timeout=0.2)
        with pytest.raises(StoreRetry):
            await store.create("key", bytes(15 << 20))
        over.set()


async def test_a_body_that_is_cut_is_not_taken_for_the_object() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "e"\r\n'
            b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\nonly this"
        )
        await writer.drain()

    async with raw_server(serve) as url:
        store = make(url)
        with pytest.raises(StoreRetry):
            await store.get("key")


async def test_a_connection_closed_without_an_answer_may_be_tried_again() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(serve) as url:
        store = make(url)
        with pytest.raises(StoreRetry):
            await store.get("key")


@pytest.mark.parametrize(
    "options",
    [
        {"endpoint_url": "no-scheme-no-host"},
        {"profile": "no-such-profile"},
        {"region": "not a region"},
    ],
    ids=str,
)
async def test_options_that_cannot_work_are_refused(options: dict[str, Any]) -> None:
    store = make("http://127.0.0.1:1", **options)
    with pytest.raises(StoreRefused) as caught:
        await store.get("key")
    assert "\n" not in str(caught.value)


async def test_a_bucket_name_that_cannot_be_is_refused() -> None:
    store = keep(
        S3Store(
            "not a bucket",
            options=S3Options(endpoint_url="http://127.0.0.1:1", region="us-east-1"),
            clock=SystemClock(),
        )
    )
    with pytest.raises(StoreRefused, match="bucket") as caught:
        await store.get("key")
    assert "\n" not in str(caught.value)


async def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(StoreRefused):
        await make("http://127.0.0.1:1").get("lone\ud800surrogate")


async def test_credentials_that_come_later_are_found(
    moto_s3: MotoS3,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    store = keep(S3Store(moto_s3.make_bucket(), options=moto_s3.options(), clock=SystemClock()))
    for _ in range(2):
        with pytest.raises(StoreRetry, match="no usable credentials"):
            await store.create("key", b"x")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    await store.create("key", b"x")


async def test_a_missing_bucket_is_refused(moto_s3: MotoS3) -> None:  # noqa: F811
    store = keep(S3Store("no-such-bucket", options=moto_s3.options(), clock=SystemClock()))
    for operation in (store.get("key"), store.create("key", b"x")):
        with pytest.raises(StoreRefused, match="create the bucket"):
            await operation
    with pytest.raises(StoreRefused):
        async for _ in store.list():
            pass


async def test_a_closed_store_says_so(moto_s3: MotoS3) -> None:  # noqa: F811
    store = keep(S3Store(moto_s3.make_bucket(), options=moto_s3.options(), clock=SystemClock()))
    await store.close()
    with pytest.raises(RuntimeError, match="closed"):
        await store.get("key")
