"""What a process that died has left of its writes goes at the next start, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import StoreRefused, StoreRetry
from hf_agent.store.directory import DirectoryStore
from hf_agent.store.durable import TEMPORARY_PREFIX
from hf_agent.store.s3 import S3Store
from support.http_stub import Answer, Recorded, StubServer, stub_server
from support.key_gate import error_answer
from support.moto_s3 import MotoS3, moto_s3, s3_bucket  # noqa: F401 - fixtures
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures

LATER, MIB = 4e9, 1 << 20


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        yield server


async def begin(store: S3Store, key: str) -> str:
    """Begin an upload and leave it, as a process does that dies; returns its id."""
    answer = await store._requests.call("start_multipart", "create_multipart_upload", key, {})
    return str(answer["UploadId"])


async def test_uploads_below_the_prefix_are_aborted_and_all_others_left(
    moto_s3: MotoS3,  # noqa: F811
    s3_bucket: str,  # noqa: F811
) -> None:
    store = keep(S3Store(s3_bucket, "logs", options=moto_s3.options(), clock=SystemClock()))
    whole = keep(S3Store(s3_bucket, options=moto_s3.options(), clock=SystemClock()))
    for key in ("node-1/app/0000000001.0", "node-1/other/0000000009.0"):
        await begin(store, key)
    for key in ("node-10/app/0000000001.0", "node-2/app/0000000001.0"):
        await begin(store, key)
    await begin(whole, "node-1/app/0000000001.0")  # outside of the store's own prefix
    assert await store.abort_left_uploads("node-1/", before=0) == 0
    assert await store.abort_left_uploads("node-1/", before=LATER) == 2
    assert moto_s3.unfinished_uploads(s3_bucket) == 3
    assert await store.abort_left_uploads("node-1/", before=LATER) == 0
    assert await store.abort_left_uploads("", before=LATER) == 2
    assert await whole.abort_left_uploads("", before=LATER) == 1


async def test_uploads_that_run_are_left_alone(stub: StubServer) -> None:
    part_came, go_on = asyncio.Event(), asyncio.Event()
    begun: list[str] = []

    def respond(request: Recorded) -> Answer:
        if request.method == "POST" and "uploads" in request.query:
            begun.append("own")
            name = "InitiateMultipartUploadResult"
            return Answer(body=f"<{name}><UploadId>own</UploadId></{name}>".encode())
        if request.method == "PUT":
            part_came.set()
            return Answer(headers={"ETag": '"e"'}, wait=go_on.wait)
        if request.method == "POST":
            return Answer(
                body=b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
            )
        return (
            Answer(204) if request.method == "DELETE" else listing([("key", "own"), ("key", "old")])
        )

    stub.respond = respond
    store = make(stub.url, multipart_threshold=1)
    upload = asyncio.create_task(store.create("key", bytes(2)))
    await part_came.wait()
    assert await store.abort_left_uploads("", before=LATER) == 1
    go_on.set()
    await upload
    ended = [request.query["uploadId"] for request in stub.requests if request.method == "DELETE"]
    assert ended == ["old"]


def listing(
    uploads: list[tuple[str, str]], *, marker: str = "", begun: str = "2026-01-01"
) -> Answer:
    items = "".join(
        f"<Upload><Key>prefix/{key}</Key><UploadId>{upload}</UploadId>"
        f"<Initiated>{begun}T00:00:00Z</Initiated></Upload>"
        for key, upload in uploads
    )
    more = f"<NextKeyMarker>{marker}</NextKeyMarker><NextUploadIdMarker>u</NextUploadIdMarker>"
    head = f"<IsTruncated>{'true' if marker else 'false'}</IsTruncated>{more if marker else ''}"
    return Answer(
        body=f"<ListMultipartUploadsResult>{head}{items}</ListMultipartUploadsResult>".encode()
    )


async def test_a_long_listing_is_followed_to_its_end(stub: StubServer) -> None:
    pages = {"": "b", "b": "c", "c": ""}

    def respond(request: Recorded) -> Answer:
        if request.method == "DELETE":
            return Answer(204)
        at = request.query.get("key-marker", "")
        assert request.query.get("upload-id-marker", "") == ("u" if at else "")
        return listing(
            [(f"{at}{number}", f"{at}{number}") for number in range(3)], marker=pages[at]
        )

    stub.respond = respond
    assert await make(stub.url).abort_left_uploads("", before=LATER) == 9


async def test_a_server_that_lists_by_no_prefix_is_asked_for_all(stub: StubServer) -> None:
    """As MinIO does: by the whole key of an object, or everything."""

    def respond(request: Recorded) -> Answer:
        if request.method == "DELETE":
            return Answer(204)
        uploads = [("node-1/app/1", "1"), ("node-2/app/1", "2")]
        return listing([] if request.query.get("prefix") else uploads)

    stub.respond = respond
    assert await make(stub.url).abort_left_uploads("node-1/", before=LATER) == 1
    ended = [request.query["uploadId"] for request in stub.requests if request.method == "DELETE"]
    assert ended == ["1"]


async def test_a_listing_that_goes_in_circles_is_given_up(stub: StubServer) -> None:
    stub.respond = lambda request: listing([], marker="same")
    with pytest.raises(StoreRetry, match="does not go on"):
        await make(stub.url).abort_left_uploads("", before=LATER)
    assert len(stub.requests) == 2


async def test_what_somebody_else_has_ended_meanwhile_is_not_counted(stub: StubServer) -> None:
    def respond(request: Recorded) -> Answer:
        if request.method == "DELETE":
            gone = request.query["uploadId"] == "1"
            return error_answer(404, "NoSuchUpload") if gone else Answer(204)
        return listing([("a", "1"), ("b", "2")])

    stub.respond = respond
    assert await make(stub.url).abort_left_uploads("", before=LATER) == 1


async def test_a_younger_upload_is_left(stub: StubServer) -> None:
    stub.respond = lambda request: listing([("a", "1")], begun="2026-01-01")
    begun = 1767225600.0
    assert await make(stub.url).abort_left_uploads("", before=begun) == 0
    stub.respond = lambda request: (
        Answer(204) if request.method == "DELETE" else listing([("a", "1")], begun="2026-01-01")
    )
    assert await make(stub.url).abort_left_uploads("", before=begun + 1) == 1


async def test_a_missing_right_is_told(stub: StubServer) -> None:
    stub.respond = lambda request: error_answer(403, "AccessDenied")
    with pytest.raises(StoreRefused, match="list_multipart failed"):
        await make(stub.url).abort_left_uploads("", before=LATER)


async def test_the_directory_store_removes_old_temporary_files_below_the_prefix(
    tmp_path: Path,
) -> None:
    store = DirectoryStore(tmp_path, clock=SystemClock(), rng=random.Random(1))
    assert await store.abort_left_uploads("node-1/", before=LATER) == 0
    for key in ("node-1/app/inode", "node-1/x/y/inode", "node-10/app/inode", "node-1.0"):
        await store.create(key, b"x")
    left = [
        tmp_path / folder / f"{TEMPORARY_PREFIX}{number}"
        for number, folder in enumerate(("node-1", "node-1/app", "node-1/x/y", "node-10/app", "."))
    ]
    for path in left:
        path.write_bytes(b"half of some object")
        os.utime(path, (1000.0, 1000.0))
    assert await store.abort_left_uploads("node-1/", before=1000.0) == 0
    assert await store.abort_left_uploads("node-1/", before=1001.0) == 3
    assert [path.exists() for path in left] == [False, False, False, True, True]
    assert await store.abort_left_uploads("node-1", before=1001.0) == 1
    assert await store.abort_left_uploads("", before=1001.0) == 1
    keys = sorted([str(getattr(item, "key", item)) async for item in store.list()])
    assert keys == ["node-1.0", "node-1/app/inode", "node-1/x/y/inode", "node-10/app/inode"]
    await store.close()
