"""Directory buckets (S3 Express One Zone): sessions, listings, and nothing that they refuse."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import list_containers
from hf_agent.store.base import ObjectInfo, StoreConflict, StoreNotFound, StoreRefused, StoreRetry
from hf_agent.store.options import S3Options
from hf_agent.store.preflight import preflight
from hf_agent.store.s3 import S3Store
from hf_agent.store.s3_bucket import is_directory_bucket
from support.aws_front import aws_front
from support.http_stub import Answer, Recorded, StubServer, stub_server
from support.key_gate import error_answer
from support.s3_stores import credentials, keep, made_stores  # noqa: F401 - fixtures

BUCKET = "logs--use1-az4--x-s3"
REFUSED = re.compile(
    "content-md5|x-amz-(storage-class|server-side-encryption|acl|tagging|security-token)"
)


@dataclass
class Express:
    """A directory bucket: sessions, opaque etags, listings by folder and in no order."""

    lifetime: float = 300.0
    """Seconds, as its sessions tell."""
    over: set[str] = field(default_factory=set)
    """Sessions that are not taken any more."""
    sessions: list[str] = field(default_factory=list)
    objects: dict[str, tuple[bytes, str, dict[str, str]]] = field(default_factory=dict)
    uploads: dict[str, tuple[bytes, dict[str, str]]] = field(default_factory=dict)
    denied: bool = False

    def __call__(self, request: Recorded) -> Answer:
        key = request.path.removeprefix(f"/{BUCKET}").lstrip("/")
        head = request.method == "HEAD"
        if "session" in request.query:
            return self._session()
        if found := [name for name in request.headers if REFUSED.match(name)]:
            return error_answer(501, f"NotImplemented.{found[0]}", head=head)
        token = request.headers.get("x-amz-s3session-token", "")
        if token not in self.sessions:
            return error_answer(403, "AccessDenied", head=head)
        if token in self.over:
            return error_answer(400, "ExpiredToken", head=head)
        if not key:
            return self._list(request.query)
        if {"uploads", "uploadId"} & request.query.keys():
            return self._in_parts(key, request)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Answer(204)
        return self._put(key, request) if request.method == "PUT" else self._get(key, request)

    def _session(self) -> Answer:
        if self.denied:
            return error_answer(403, "AccessDenied")
        self.sessions.append(f"session-{len(self.sessions) + 1}")
        ends = datetime.now(UTC) + timedelta(seconds=self.lifetime)
        return Answer(
            body=(
                "<CreateSessionResult><Credentials><AccessKeyId>A</AccessKeyId>"
                f"<SecretAccessKey>s</SecretAccessKey><SessionToken>{self.sessions[-1]}"
                f"</SessionToken><Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
                "</CreateSessionResult>"
            ).encode()
        )

    def _in_parts(self, key: str, request: Recorded) -> Answer:
        """Uploads of one part."""
        upload = request.query.get("uploadId", f"upload-{len(self.sessions)}-{key}")
        kept = {n: v for n, v in request.headers.items() if n.startswith("x-amz-meta-")}
        if request.method == "DELETE":
            self.uploads.pop(upload)
            return Answer(204)
        if request.method == "PUT":
            self.uploads[upload] = (request.body, self.uploads[upload][1])
            return Answer(headers={"ETag": '"part"'})
        name = "InitiateMultipartUploadResult"
        if "uploads" in request.query:
            self.uploads[upload] = (b"", kept)
            return Answer(body=f"<{name}><UploadId>{upload}</UploadId></{name}>".encode())
        body, kept = self.uploads[upload]
        headers = {**request.headers, **kept}
        answer = self._put(key, Recorded("PUT", request.path, {}, headers, body))
        if answer.status != 200:
            return answer
        del self.uploads[upload]
        name = "CompleteMultipartUploadResult"
        etag = answer.headers["ETag"].strip('"')
        return Answer(body=f"<{name}><ETag>{etag}</ETag></{name}>".encode())

    def _put(self, key: str, request: Recorded) -> Answer:
        found = self.objects.get(key)
        if request.headers.get("if-none-match") == "*" and found:
            return error_answer(412, "PreconditionFailed")
        if wanted := request.headers.get("if-match"):
            if found is None:
                return error_answer(404, "NoSuchKey")
            if wanted != found[1]:
                return error_answer(412, "PreconditionFailed")
        kept = {n: v for n, v in request.headers.items() if n.startswith("x-amz-meta-")}
        self.objects[key] = (request.body, f'"{secrets.token_hex(8)}"', kept)
        return Answer(headers={"ETag": self.objects[key][1]})

    def _get(self, key: str, request: Recorded) -> Answer:
        if key not in self.objects:
            return error_answer(404, "NoSuchKey", head=request.method == "HEAD")
        body, etag, kept = self.objects[key]
        headers = {"ETag": etag, "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", **kept}
        if request.method == "HEAD":
            return Answer(headers={**headers, "Content-Length": str(len(body))})
        if asked := request.headers.get("range"):
            first, last = asked.removeprefix("bytes=").split("-")
            start = int(first) if first else len(body) - int(last)
            end = int(last) + 1 if first and last else len(body)
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
            return Answer(206, body[start:end], headers)
        return Answer(body=body, headers=headers)

    def _list(self, query: dict[str, str]) -> Answer:
        prefix = query.get("prefix", "")
        if (prefix and not prefix.endswith("/")) or query.get("delimiter", "/") != "/":
            return error_answer(400, "InvalidRequest")
        items = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>{etag}</ETag>"
            "<LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for key, (body, etag, _) in sorted(self.objects.items(), reverse=True)
            if key.startswith(prefix)
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        return Answer(body=text.encode())


@pytest.fixture
async def stub() -> AsyncIterator[StubServer]:
    async with stub_server() as server:
        yield server


def make(url: str, **options: Any) -> S3Store:
    named = {"endpoint_url": url, "region": "us-east-1", "addressing": "auto"} | options
    return keep(S3Store(BUCKET, "a/b", options=S3Options(**named), clock=SystemClock()))


def test_the_name_tells_the_kind() -> None:
    assert is_directory_bucket(BUCKET)
    for name in ("logs", "logs--x-s3-not", "x-s3", "logs-x-s3"):
        assert not is_directory_bucket(name)


async def test_all_requests_of_a_bucket_share_one_session(stub: StubServer) -> None:
    stub.respond = express = Express()
    store = make(stub.url)
    await asyncio.gather(*(store.create(f"key{number}", b"x") for number in range(20)))
    assert express.sessions == ["session-1"]
    signed = [r.headers["authorization"] for r in stub.requests if "session" not in r.query]
    assert len(signed) == 20
    assert all("Credential=A/" in header and "/s3express/" in header for header in signed)


async def test_a_session_is_made_anew_before_it_ends(stub: StubServer) -> None:
    stub.respond = express = Express(lifetime=30)
    store = make(stub.url)
    for _ in range(3):
        await store.head("key") if "a/b/key" in express.objects else await store.create("key", b"x")
    assert len(express.sessions) >= 3  # each of them ends too soon for the next request


async def test_a_session_that_has_ended_after_all_is_replaced_at_once(stub: StubServer) -> None:
    """As when the clock of this machine is slow: botocore takes it for good still."""
    stub.respond = express = Express()
    store = make(stub.url)
    etag = await store.create("key", b"one")
    express.over.add("session-1")
    assert (await store.get("key")).data == b"one"
    express.over.add("session-2")
    assert (await store.head("key")).etag == etag
    express.over.add("session-3")
    await store.replace("key", b"two", etag=etag)
    assert express.objects["a/b/key"][0] == b"two"


async def test_a_session_that_is_over_when_it_is_made_may_be_better_next_time(
    stub: StubServer,
) -> None:
    """The clock of this machine is fast."""
    stub.respond = express = Express(lifetime=-60)
    store = make(stub.url)
    with pytest.raises(StoreRetry, match="over already by this machine's clock"):
        await store.create("key", b"x")
    express.lifetime = 300
    await store.create("key", b"x")


async def test_without_the_right_to_a_session_the_right_is_named(stub: StubServer) -> None:
    stub.respond = express = Express(denied=True)
    store = make(stub.url)
    with pytest.raises(StoreRefused, match="allow s3express:CreateSession on the directory bucket"):
        await store.create("key", b"x")
    with pytest.raises(StoreRefused, match="s3express:CreateSession"):
        await preflight(store, "scratch")
    express.denied = False
    await store.create("key", b"x")


async def test_nothing_is_sent_that_they_refuse(stub: StubServer) -> None:
    """Also not what the options ask of other buckets."""
    stub.respond = express = Express()
    options = {"sse": "aws:kms", "sse_kms_key_id": "k", "storage_class": "STANDARD_IA"}
    store = make(stub.url, checksum="crc32c", multipart_threshold=100, **options)
    etag = await store.create("key", b"x")
    await store.replace("key", b"y", etag=etag)
    await store.create("large", bytes(200))
    assert len(express.objects) == 2
    assert express.objects["a/b/key"][0] == b"y"
    assert stub.requests[-2].headers["x-amz-checksum-crc32c"]


async def test_etags_are_compared_and_never_interpreted(stub: StubServer) -> None:
    stub.respond = Express()
    store = make(stub.url)
    first = await store.create("key", b"same")
    second = await store.replace("key", b"same", etag=first)
    assert first != second
    with pytest.raises(StoreConflict):
        await store.replace("key", b"same", etag=first)
    with pytest.raises(StoreNotFound):
        await store.replace("gone", b"same", etag=first)


@pytest.mark.parametrize("prefix", ["", "app", "app/", "app/o", "app/one/inode", "none/"])
async def test_a_listing_by_any_prefix_asks_by_folder_only(stub: StubServer, prefix: str) -> None:
    stub.respond = express = Express()
    store = make(stub.url)
    keys = ["app/one/inode", "app/other/inode", "apple/inode", "else/inode"]
    for key in keys:
        await store.create(key, b"x")
    express.objects["a/beside"] = (b"", '"e"', {})
    found = [item.key async for item in store.list(prefix) if isinstance(item, ObjectInfo)]
    assert sorted(found) == [key for key in keys if key.startswith(prefix)]
    asked = stub.requests[-1].query["prefix"]
    assert asked.endswith("/")
    assert asked == f"a/b/{prefix[: prefix.rfind('/') + 1]}"


async def test_a_general_purpose_bucket_is_asked_for_the_prefix_as_it_is(stub: StubServer) -> None:
    stub.respond = lambda request: Answer(body=b"<ListBucketResult/>")
    options = S3Options(endpoint_url=stub.url, region="us-east-1", addressing="path")
    store = keep(S3Store("logs", "a/b", options=options, clock=SystemClock()))
    async for _ in store.list("app/o"):
        pass
    assert stub.requests[-1].query["prefix"] == "a/b/app/o"


async def test_containers_are_found_by_the_start_of_their_names(stub: StubServer) -> None:
    stub.respond = Express()
    store = make(stub.url)
    for key in ("node/app", "node/apple", "node/else"):
        await store.create(f"{key}/inode", bytes(160))
    assert {key async for key in list_containers(store, "node/app")} == {"node/app", "node/apple"}


async def test_uploads_are_looked_for_by_folder_and_one_marker(stub: StubServer) -> None:
    express = Express()

    def respond(request: Recorded) -> Answer:
        if "uploads" not in request.query:
            return Answer(204) if "uploadId" in request.query else express(request)
        assert request.query.get("prefix", "/").endswith("/")
        assert "upload-id-marker" not in request.query
        last = "key-marker" in request.query
        names = ("node/app/z", "node/other/y") if last else ("node/apple/x", "node/app/w")
        uploads = "".join(
            f"<Upload><Key>a/b/{name}</Key><UploadId>{name[-1]}</UploadId>"
            "<Initiated>2026-01-01T00:00:00Z</Initiated></Upload>"
            for name in names
        )
        more = "" if last else "<NextKeyMarker>m</NextKeyMarker>"
        truncated = f"<IsTruncated>{str(not last).lower()}</IsTruncated>"
        text = (
            f"<ListMultipartUploadsResult>{truncated}{more}{uploads}</ListMultipartUploadsResult>"
        )
        return Answer(body=text.encode())

    stub.respond = respond
    store = make(stub.url)
    assert await store.abort_left_uploads("node/app", before=2e9) == 3
    ended = [r.query["uploadId"] for r in stub.requests if r.method == "DELETE"]
    assert sorted(ended) == ["w", "x", "z"]


async def test_a_directory_bucket_passes_the_preflight(stub: StubServer) -> None:
    stub.respond = express = Express()
    await preflight(make(stub.url), "scratch/unique")
    assert express.objects == {}
    assert express.uploads == {}


async def test_botocore_chooses_the_zone_of_the_bucket(tmp_path: Path) -> None:
    async with aws_front(tmp_path) as front:
        front.stub.respond = express = Express()
        store = make("", **front.options)
        host = f"{BUCKET}.s3express-use1-az4.us-east-1.amazonaws.com"

        def at_the_zone(request: Recorded) -> Answer:
            assert request.headers["host"] == host
            request.path = f"/{BUCKET}{request.path}"
            return express(request)

        front.stub.respond = at_the_zone
        await store.create("key", b"x")
        assert (await store.get("key")).data == b"x"
        assert set(front.connected) == {f"{host}:443"}
        assert list(express.objects) == ["a/b/key"]
        await store.close()
