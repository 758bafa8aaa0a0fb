"""A bucket in another region than the one that is configured: found without an operator."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hf_agent.store.base import StoreRefused, StoreRetry
from support.aws_front import AwsFront, aws_front
from support.http_stub import Answer, Recorded, stub_server
from support.key_gate import error_answer
from support.s3_stores import credentials, made_stores, make  # noqa: F401 - fixtures

MIB = 1 << 20
HOME = "eu-west-1"
SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/")
OBJECT = {"ETag": '"e"', "Content-Length": "0", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
STARTED = b"<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>"
COMPLETED = b"<CompleteMultipartUploadResult><ETag>whole</ETag></CompleteMultipartUploadResult>"


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[AwsFront]:
    async with aws_front(tmp_path) as running:
        yield running


def signed_for(request: Recorded) -> str:
    found = SCOPE.search(request.headers.get("authorization", ""))
    return found[1] if found else ""


def done(request: Recorded) -> Answer:
    if "uploads" in request.query:
        return Answer(body=STARTED)
    if request.method == "POST":
        return Answer(body=COMPLETED)
    return Answer(204 if request.method == "DELETE" else 200, headers=OBJECT)


class Elsewhere:
    """A bucket that is in `HOME`, and answers other regions with a redirect."""

    def __init__(self, status: int, code: str, **headers: str) -> None:
        self._redirect = (status, code, headers)
        self.requests: list[Recorded] = []

    def __call__(self, request: Recorded) -> Answer:
        self.requests.append(request)
        if signed_for(request) == HOME:
            return done(request)
        status, code, headers = self._redirect
        head = request.method == "HEAD"
        return error_answer(status, code, head=head, **headers)


ANSWERS = [
    Elsewhere(301, "PermanentRedirect", x_amz_bucket_region=HOME),
    Elsewhere(
        307,
        "TemporaryRedirect",
        x_amz_bucket_region=HOME,
        Location=f"https://bucket.s3.{HOME}.amazonaws.com/prefix/key",
    ),
    Elsewhere(400, "AuthorizationHeaderMalformed", region=HOME, x_amz_bucket_region=HOME),
    Elsewhere(400, "IllegalLocationConstraintException", x_amz_bucket_region=HOME),
]


@pytest.mark.parametrize("elsewhere", ANSWERS, ids=lambda each: each._redirect[1])
async def test_a_bucket_of_another_region_is_found_by_every_operation(
    front: AwsFront, elsewhere: Elsewhere
) -> None:
    elsewhere.requests.clear()
    front.stub.respond = elsewhere
    for name in ("create", "get", "head", "delete", "large"):
        store = make("", region="us-east-1", addressing="auto", **front.options)
        if name == "create":
            assert await store.create("key", b"x") == '"e"'
        elif name == "get":
            assert (await store.get("key")).data == b""
        elif name == "head":
            assert (await store.head("key")).etag == '"e"'
        elif name == "delete":
            await store.delete("key")
        else:
            body = bytes(3 * MIB)
            assert await store.create("key", [body, b"end"]) == '"e"'
            assert elsewhere.requests[-1].body == body + b"end"
        first, *_, last = elsewhere.requests
        assert (signed_for(first), signed_for(last)) == ("us-east-1", HOME)
        assert first.headers["host"] == "bucket.s3.us-east-1.amazonaws.com"
        assert last.headers["host"] == f"bucket.s3.{HOME}.amazonaws.com"
        assert last.method == first.method
        assert last.headers.get("if-none-match") == first.headers.get("if-none-match")
        # From then on it goes there at once.
        elsewhere.requests.clear()
        await store.create("other", b"y")
        assert [signed_for(request) for request in elsewhere.requests] == [HOME]
        elsewhere.requests.clear()
        await store.close()


async def test_an_upload_in_parts_goes_where_the_bucket_is(front: AwsFront) -> None:
    front.stub.respond = elsewhere = Elsewhere(307, "TemporaryRedirect", x_amz_bucket_region=HOME)
    options = {"region": "us-east-1", "addressing": "auto", "multipart_threshold": 5 * MIB}
    store = make("", **options, **front.options)
    assert await store.create("key", bytes(9 * MIB)) == '"whole"'
    methods = [(request.method, signed_for(request)) for request in elsewhere.requests]
    assert methods[0] == ("POST", "us-east-1")
    assert sorted(methods[1:]) == [("POST", HOME), ("POST", HOME), ("PUT", HOME), ("PUT", HOME)]


async def test_a_region_that_the_answer_does_not_name_is_asked_for() -> None:
    def respond(request: Recorded) -> Answer:
        at_home = signed_for(request) == HOME
        if request.path == "/bucket":
            return Answer(200 if at_home else 301, headers={"x-amz-bucket-region": HOME})
        return done(request) if at_home else error_answer(301, "PermanentRedirect")

    async with stub_server() as stub:
        stub.respond = respond
        await make(stub.url, region="us-east-1").create("key", b"x")


async def test_a_redirect_to_nowhere_is_for_the_operator() -> None:
    async with stub_server() as stub:
        stub.respond = lambda request: error_answer(301, "PermanentRedirect")
        with pytest.raises(
            StoreRefused, match=r"set store\.s3\.region to the region of the bucket"
        ):
            await make(stub.url).create("key", b"x")


async def test_a_redirect_that_leads_back_may_pass() -> None:
    """A bucket made a moment ago, whose name is not known everywhere yet."""
    async with stub_server() as stub:
        stub.respond = lambda request: error_answer(
            307, "TemporaryRedirect", x_amz_bucket_region="us-east-1", Location=stub.url
        )
        with pytest.raises(StoreRetry, match="is new and not known there yet"):
            await make(stub.url).create("key", b"x")
        assert len(stub.requests) == 2
