"""What the S3 store sends, and what it makes of unusual answers."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import ObjectInfo, StoreConflict, StoreError, StoreRefused, StoreRetry
from hf_agent.store.options import S3Options
from hf_agent.store.s3 import S3Store
from hf_agent.store.s3_body import UploadBody, request_body
from support.http_stub import Answer, Recorded, StubServer, stub_server
from support.moto_s3 import CREDENTIALS, MotoS3, moto_s3, s3_bucket  # noqa: F401 - fixtures
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures

MIB = 1 << 20
MODIFIED = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
OBJECT_HEADERS = {
    "ETag": '"e"',
    "Content-Length": "0",
    "Last-Modified": format_datetime(MODIFIED, usegmt=True),
}
STARTED = b"<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>"


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        server.respond = lambda request: Answer(headers=OBJECT_HEADERS)
        yield server


async def test_writes_carry_their_conditions_and_metadata(stub: StubServer) -> None:
    store = make(stub.url)
    await store.create("key", b"x", metadata={"hf-write": "01"})
    await store.replace("key", b"y", etag='"old"', metadata={"hf-write": "02"})
    created, replaced = stub.requests
    assert (created.method, created.path) == ("PUT", "/bucket/prefix/key")
    assert created.headers["if-none-match"] == "*"
    assert "if-match" not in created.headers
    assert created.headers["x-amz-meta-hf-write"] == "01"
    assert replaced.headers["if-match"] == '"old"'
    assert "if-none-match" not in replaced.headers
    assert replaced.headers["x-amz-meta-hf-write"] == "02"


async def test_no_checksums_are_sent_that_compatible_servers_may_not_know(
    stub: StubServer,
) -> None:
    store = make(stub.url)
    await store.create("key", bytes(200_000))
    (request,) = stub.requests
    assert not [name for name in request.headers if "checksum" in name or "trailer" in name]
    assert request.headers["content-length"] == "200000"


@pytest.mark.parametrize("nbytes", [10, 200_000, 3 * MIB])
async def test_bodies_arrive_as_they_were_given(stub: StubServer, nbytes: int) -> None:
    data = random.Random(nbytes).randbytes(nbytes)
    store = make(stub.url)
    await store.create("key", [data[:3], memoryview(data)[3 : nbytes // 2], data[nbytes // 2 :]])
    (request,) = stub.requests
    assert request.body == data
    # Over plain HTTP the body is part of the signature.
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()


async def test_a_large_body_is_handed_on_without_a_copy() -> None:
    data = bytearray(3 * MIB)
    wanted = []
    body = request_body([memoryview(data), memoryview(data)], lambda: wanted.append(1))
    assert isinstance(body, UploadBody)
    assert len(body) == 2 * len(data)
    pieces = [piece async for piece in body]
    assert all(piece.obj is data for piece in pieces)
    assert max(piece.nbytes for piece in pieces) <= MIB
    assert len(wanted) == len(pieces) + 1
    again = [piece async for piece in body]
    assert sum(piece.nbytes for piece in again) == len(body)


async def test_tiny_views_are_joined_and_all_bytes_come_in_order() -> None:
    rng = random.Random(1)
    sizes = [4096] * 300 + [100_000, 5, 600_000, 16_384, 16_385] + [1] * 10 + [4096] * 3
    buffers = [rng.randbytes(size) for size in sizes]
    body = request_body([memoryview(each) for each in buffers], lambda: None)
    assert isinstance(body, UploadBody)
    pieces = [piece async for piece in body]
    assert b"".join(pieces) == b"".join(buffers)
    assert max(piece.nbytes for piece in pieces) <= 256 << 10
    assert len(pieces) <= 300 * 4096 // (256 << 10) + 10


@pytest.mark.parametrize("nbytes", [10, 200_000, 3 * MIB])
async def test_the_signature_covers_the_body_over_plain_http(
    stub: StubServer, nbytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random.Random(nbytes).randbytes(nbytes)
    read_on_the_loop: list[int] = []
    original = UploadBody.read

    def read(body: UploadBody, size: int = -1) -> memoryview:
        read_on_the_loop.append(len(body))
        return original(body, size)

    monkeypatch.setattr(UploadBody, "read", read)
    await make(stub.url).create("key", [data[:3], data[3:]])
    (request,) = stub.requests
    assert request.headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
    if nbytes > MIB:
        assert not read_on_the_loop, "a large body is hashed in a thread"


async def test_a_body_is_read_like_a_file() -> None:
    body = UploadBody([memoryview(b"abc"), memoryview(b"defgh")], lambda: None)
    read = b"".join(iter(lambda: bytes(body.read(2)), b""))
    assert read == b"abcdefgh"
    assert (body.tell(), body.seek(0, 2), body.seek(-3, 1), bytes(body.read())) == (8, 8, 5, b"fgh")
    assert body.seek(0) == 0


async def test_a_large_object_goes_up_in_parts_with_the_condition_on_the_last_request(
    stub: StubServer,
) -> None:
    def respond(request: Recorded) -> Answer:
        if "uploads" in request.query:
            return Answer(body=STARTED)
        if request.method == "PUT":
            return Answer(headers={"ETag": f'"part{request.query["partNumber"]}"'})
        return Answer(body=COMPLETED)

    stub.respond = respond
    store = make(stub.url, multipart_threshold=10 * MIB, part_bytes=5 * MIB)
    data = random.Random(1).randbytes(11 * MIB)
    assert await store.create("key", [data], metadata={"hf-write": "01"}) == '"whole"'
    assert await store.replace("key", [data], etag='"old"') == '"whole"'
    first, *parts, last = stub.requests[:5]
    assert first.headers["x-amz-meta-hf-write"] == "01"
    assert "if-none-match" not in first.headers
    by_number = sorted(parts, key=lambda part: int(part.query["partNumber"]))
    assert [len(part.body) for part in by_number] == [5 * MIB, 5 * MIB, MIB]
    assert b"".join(part.body for part in by_number) == data
    assert all("if-none-match" not in part.headers for part in parts)
    assert last.headers["if-none-match"] == "*"
    for number in (1, 2, 3):
        assert f"<PartNumber>{number}</PartNumber>".encode() in last.body
        assert f"part{number}".encode() in last.body
    assert stub.requests[9].headers["if-match"] == '"old"'


async def test_a_failed_part_aborts_the_upload_and_stops_the_others(stub: StubServer) -> None:
    first_came, others = asyncio.Event(), asyncio.Event()

    def respond(request: Recorded) -> Answer:
        if "uploads" in request.query:
            return Answer(body=STARTED)
        if request.query.get("partNumber") == "2":
            return Answer(503, b"<Error><Code>SlowDown</Code></Error>", wait=first_came.wait)
        if request.method == "PUT":
            first_came.set()
            return Answer(wait=others.wait)
        return Answer(204)

    stub.respond = respond
    store = make(stub.url, multipart_threshold=10 * MIB, part_bytes=5 * MIB, part_concurrency=2)
    with pytest.raises(StoreRetry, match="SlowDown"):
        await store.create("key", bytes(30 * MIB))
    others.set()
    assert stub.requests[-1].method == "DELETE"
    assert stub.requests[-1].query["uploadId"] == "U"
    assert len([request for request in stub.requests if request.method == "PUT"]) == 2


async def test_an_upload_that_is_cancelled_is_aborted(stub: StubServer) -> None:
    part_came, over = asyncio.Event(), asyncio.Event()

    def respond(request: Recorded) -> Answer:
        if "uploads" in request.query:
            return Answer(body=STARTED)
        if request.method == "PUT":
            part_came.set()
            return Answer(wait=over.wait)
        return Answer(204)

    stub.respond = respond
    store = make(stub.url, multipart_threshold=10 * MIB, part_bytes=5 * MIB)
    task = asyncio.create_task(store.create("key", bytes(11 * MIB)))
    await part_came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    over.set()
    assert [
        request.query["uploadId"] for request in stub.requests if request.method == "DELETE"
    ] == ["U"]


async def test_a_refused_upload_leaves_no_parts(moto_s3: MotoS3, s3_bucket: str) -> None:  # noqa: F811
    options = moto_s3.options(multipart_threshold=5 * MIB, part_bytes=5 * MIB)
    store = keep(S3Store(s3_bucket, options=options, clock=SystemClock()))
    await store.create("key", b"first")
    with pytest.raises(StoreConflict):
        await store.create("key", bytes(6 * MIB))
    assert moto_s3.unfinished_uploads(s3_bucket) == 0


async def test_a_range_that_the_server_ignores_is_cut_here(stub: StubServer) -> None:
    stub.respond = lambda request: Answer(
        body=b"0123456789", headers={**OBJECT_HEADERS, "Content-Length": "10"}
    )
    store = make(stub.url)
    middle = await store.get("key", start=3, end=5)
    assert (middle.data, middle.offset, middle.info.size) == (b"34", 3, 10)
    last = await store.get("key", suffix=2)
    assert (last.data, last.offset, last.info.size) == (b"89", 8, 10)
    past = await store.get("key", start=20)
    assert (past.data, past.offset, past.info.size) == (b"", 10, 10)
    assert [request.headers["range"] for request in stub.requests] == [
        "bytes=3-4",
        "bytes=-2",
        "bytes=20-",
    ]


async def test_times_are_the_servers(stub: StubServer) -> None:
    date = datetime(2026, 1, 1, 12, 0, 7, tzinfo=UTC)
    headers = {**OBJECT_HEADERS, "Date": format_datetime(date, usegmt=True)}
    stub.respond = lambda request: Answer(headers=headers)
    store = make(stub.url)
    info = await store.head("key")
    assert (info.last_modified, info.date) == (MODIFIED.timestamp(), date.timestamp())
    assert (await store.get("key")).info.date == date.timestamp()


async def test_without_the_servers_time_the_own_clock_is_taken(stub: StubServer) -> None:
    stub.respond = lambda request: Answer(headers={**OBJECT_HEADERS, "Date": "half past"})
    before = SystemClock().time()
    assert (await make(stub.url).head("key")).date >= before


async def test_an_object_that_grew_between_two_looks_may_be_read_again(stub: StubServer) -> None:
    def respond(request: Recorded) -> Answer:
        if request.method == "HEAD":
            return Answer(headers={**OBJECT_HEADERS, "Content-Length": "100"})
        return Answer(416, b"<Error><Code>InvalidRange</Code></Error>")

    stub.respond = respond
    with pytest.raises(StoreRetry, match="changed while it was read"):
        await make(stub.url).get("key", start=50)


async def test_a_listing_that_breaks_off_is_no_listing(stub: StubServer) -> None:
    body = b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>"
    stub.respond = lambda request: Answer(body=body)
    with pytest.raises(StoreRetry, match="breaks off"):
        async for _ in make(stub.url).list():
            pass


async def test_an_abort_that_fails_does_not_hide_why_it_was_tried(stub: StubServer) -> None:
    def respond(request: Recorded) -> Answer:
        if "uploads" in request.query:
            return Answer(body=STARTED)
        code = b"AccessDenied" if request.method == "PUT" else b"InternalError"
        status = 403 if request.method == "PUT" else 500
        return Answer(status, b"<Error><Code>" + code + b"</Code></Error>")

    stub.respond = respond
    store = make(stub.url, multipart_threshold=10 * MIB)
    with pytest.raises(StoreRefused, match="AccessDenied"):
        await store.create("key", bytes(11 * MIB))
    assert "DELETE" in [request.method for request in stub.requests]


async def test_an_answer_without_what_s3_answers_is_no_success(stub: StubServer) -> None:
    stub.respond = lambda request: Answer()
    store = make(stub.url, multipart_threshold=10)
    for operation in (
        store.create("key", b"x"),
        store.create("key", bytes(11)),
        store.get("key"),
        store.head("key"),
    ):
        with pytest.raises(StoreRetry, match="not one of S3"):
            await operation


async def test_an_etag_without_quotes_gets_them(stub: StubServer) -> None:
    stub.respond = lambda request: Answer(headers={**OBJECT_HEADERS, "ETag": "bare"})
    store = make(stub.url)
    assert await store.create("key", b"x") == '"bare"'


async def test_a_listing_passes_over_a_marker_of_the_prefix_itself(
    moto_s3: MotoS3,  # noqa: F811
    s3_bucket: str,  # noqa: F811
) -> None:
    whole = keep(S3Store(s3_bucket, options=moto_s3.options(), clock=SystemClock()))
    below = keep(S3Store(s3_bucket, "/a/b/", options=moto_s3.options(), clock=SystemClock()))
    await whole.create("a/b/", b"")
    await whole.create("a/beside", b"")
    await below.create("key", b"")
    items = [item async for item in below.list()]
    assert [item.key for item in items if isinstance(item, ObjectInfo)] == ["key"]
    keys = [item.key async for item in whole.list("a/b/k") if isinstance(item, ObjectInfo)]
    assert keys == ["a/b/key"]


async def test_no_more_requests_run_at_once_than_the_pool_has_room_for(stub: StubServer) -> None:
    running, most, go_on = 0, 0, asyncio.Event()

    async def wait() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            go_on.set()
        await go_on.wait()
        running -= 1

    stub.respond = lambda request: Answer(headers=OBJECT_HEADERS, wait=wait)
    store = make(stub.url, pool_size=3)
    await asyncio.gather(*(store.head(f"key{number}") for number in range(12)))
    assert most == 3


async def test_the_observer_hears_of_every_request(moto_s3: MotoS3, s3_bucket: str) -> None:  # noqa: F811
    heard: list[tuple[str, str]] = []
    store = keep(
        S3Store(
            s3_bucket,
            options=moto_s3.options(multipart_threshold=5 * MIB),
            clock=SystemClock(),
            observer=lambda operation, code, seconds: heard.append((operation, code)),
        )
    )
    etag = await store.create("key", b"x")
    for operation in (
        store.create("key", b"x"),
        store.replace("gone", b"x", etag=etag),
        store.get("key", start=5),
        store.head("gone"),
    ):
        try:
            await operation
        except StoreError:
            pass
    await store.create("big", bytes(6 * MIB))
    await store.delete("key")
    assert heard == [
        ("create", "ok"),
        ("create", "PreconditionFailed"),
        ("replace", "NoSuchKey"),
        ("get", "InvalidRange"),
        ("head", "ok"),
        ("head", "404"),
        ("start_multipart", "ok"),
        ("upload_part", "ok"),
        ("create", "ok"),
        ("delete", "ok"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"addressing": "dns"},
        {"part_bytes": 4 * MIB},
        {"pool_size": 0},
        {"read_timeout": -1.0},
    ],
    ids=str,
)
def test_options_out_of_bounds_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        S3Options(**options)
