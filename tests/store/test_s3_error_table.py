"""Every row of the tables of errors in docs/s3.md, brought about over HTTP."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
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
from hf_agent.store.s3_error_codes import BY_CAUSE, OTHER_CAUSE
from support.certificates import write_certificate
from support.http_stub import Answer, raw_server, stub_server
from support.key_gate import error_answer
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 - a fixture
from support.s3_error_page import table
from support.s3_stores import credentials, keep, made_stores, make  # noqa: F401 - fixtures

KINDS: dict[str, type[StoreError]] = {
    "retry": StoreRetry,
    "refused": StoreRefused,
    "conflict": StoreConflict,
    "not found": StoreNotFound,
}
CODES = [
    (row[0].strip("`"), int(row[1]), KINDS[row[2]], row[3]) for row in table("What S3 answers")
]
CAUSES = {row[0].strip("`"): row for row in table("What keeps an answer from coming")}
STATUSES = [
    (int(row[0]), KINDS[row[1]], row[2])
    for row in table("Any other code, by the status")
    if row[0].isdecimal()
]


@pytest.mark.parametrize(
    ("code", "status", "kind", "advice"), CODES, ids=[each[0] for each in CODES]
)
async def test_a_code_has_the_class_and_the_line_of_the_page(
    code: str, status: int, kind: type[StoreError], advice: str
) -> None:
    async with stub_server() as stub:
        stub.respond = lambda request: error_answer(
            status, code, head=request.method == "HEAD", x_amz_request_id="R1"
        )
        store = make(stub.url, multipart_threshold=100)
        for operation in (
            store.create("key", b"x"),
            store.create("key", bytes(101)),
            store.get("key"),
        ):
            with pytest.raises(kind) as caught:
                await operation
            assert type(caught.value) is kind
            assert caught.value.code == code
            assert f"some words; {advice} bucket=bucket key='prefix/key' code={code}" in str(
                caught.value
            )
        if code not in ("PermanentRedirect", "TemporaryRedirect"):
            assert f"status={status} request_id=R1" in str(caught.value)
        if status in (400, 403):  # which a HEAD finds out by asking again
            with pytest.raises(kind, match=f"code={code}"):
                await store.head("key")


@pytest.mark.parametrize(("status", "kind", "advice"), STATUSES, ids=str)
async def test_an_unknown_code_is_judged_by_its_status(
    status: int, kind: type[StoreError], advice: str
) -> None:
    async with stub_server() as stub:
        stub.respond = lambda request: error_answer(status, "SomethingNew")
        with pytest.raises(kind) as caught:
            await make(stub.url).create("key", b"x")
        assert type(caught.value) is kind
        assert f"some words; {advice} " in str(caught.value)


# -- no answer --------------------------------------------------------------------------------

Scenario = Callable[[Path, pytest.MonkeyPatch], Awaitable[StoreError]]


async def failure(operation: Awaitable[Any]) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await operation
    return caught.value


async def without_credentials(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.delenv(name)
    return await failure(make("http://127.0.0.1:1").get("key"))


async def untrusted(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(write_certificate(folder / "stub.pem"))
    async with stub_server(context) as stub:
        return await failure(make(stub.url).get("key"))


async def no_tls(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    async with stub_server() as stub:
        return await failure(make(stub.url.replace("http:", "https:")).get("key"))


async def unresolved(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **named: Any) -> Any:
        if host == "store.example":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **named)

    patch.setattr(socket, "getaddrinfo", resolve)
    return await failure(make("http://store.example:9000").get("key"))


async def proxy_away(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    return await failure(make("http://127.0.0.1:1", proxy="http://127.0.0.1:2").get("key"))


async def silent(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    over = asyncio.Event()
    async with stub_server() as stub:
        stub.respond = lambda request: Answer(wait=over.wait)
        error = await failure(make(stub.url, read_timeout=0.2).get("key"))
        over.set()
        return error


async def stalled(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    """The answer stops in the middle of its body."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"only this")
        await over.wait()

    async with raw_server(serve) as url:
        error = await failure(make(url, read_timeout=0.2).get("key"))
        over.set()
        return error


HEAD = (
    b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\nETag: "e"\r\n'
    b"Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n"
)


async def truncated(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"only this")
        await writer.drain()

    async with raw_server(serve) as url:
        return await failure(make(url).get("key"))


async def malformed(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    """A captive portal, say."""
    async with stub_server() as stub:
        stub.respond = lambda request: Answer(200, b"Sign in to the network.")
        return await failure(make(stub.url).get("key"))


async def disconnected(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with raw_server(serve) as url:
        return await failure(make(url).get("key"))


async def unreachable(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return await failure(make(f"http://127.0.0.1:{unused.getsockname()[1]}").get("key"))


async def impossible(folder: Path, patch: pytest.MonkeyPatch) -> StoreError:
    options = S3Options(endpoint_url="http://127.0.0.1:1", region="us-east-1")
    store = keep(S3Store("not a bucket", options=options, clock=SystemClock()))
    return await failure(store.get("key"))


SCENARIOS: list[tuple[str, Scenario]] = [
    ("credentials", without_credentials),
    ("untrusted", untrusted),
    ("tls", no_tls),
    ("unresolved", unresolved),
    ("proxy", proxy_away),
    ("timeout", silent),
    ("timeout", stalled),
    ("truncated", truncated),
    ("malformed", malformed),
    ("disconnected", disconnected),
    ("unreachable", unreachable),
    ("options", impossible),
]


@pytest.mark.parametrize(
    ("code", "scenario"), SCENARIOS, ids=[scenario.__name__ for _, scenario in SCENARIOS]
)
async def test_what_keeps_an_answer_from_coming_has_the_class_and_line_of_the_page(
    code: str, scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = await scenario(tmp_path, monkeypatch)
    _, kind, line, _ = CAUSES[code]
    what, advice = line.split("…")
    assert error.code == code
    assert type(error) is KINDS[kind]
    text = str(error)
    assert "\n" not in text
    assert re.search(rf" failed: {re.escape(what)}.*{re.escape(advice)} bucket=", text), text


def test_every_cause_has_its_scenario() -> None:
    assert {code for code, _ in SCENARIOS} == {each.code for each in (*BY_CAUSE, OTHER_CAUSE)}


# -- coming back ------------------------------------------------------------------------------


async def test_a_bucket_that_appears_later_is_used_from_then_on(moto_s3: MotoS3) -> None:  # noqa: F811
    store = keep(S3Store("appears-later", options=moto_s3.options(), clock=SystemClock()))
    for _ in range(2):
        with pytest.raises(StoreRefused, match="create the bucket"):
            await store.create("key", b"x")
    moto_s3.make_bucket("appears-later")
    await store.create("key", b"x")
    assert (await store.get("key")).data == b"x"


# -- bounds -----------------------------------------------------------------------------------


async def test_a_server_cannot_make_metrics_grow_without_end() -> None:
    heard: set[str] = set()
    async with stub_server() as stub:
        number = iter(range(1000))
        stub.respond = lambda request: error_answer(418, f"Code{next(number)}" + "x" * 1000)
        options = S3Options(endpoint_url=stub.url, region="us-east-1", addressing="path")
        store = keep(
            S3Store(
                "bucket",
                options=options,
                clock=SystemClock(),
                observer=lambda operation, code, seconds: heard.add(code),
            )
        )
        for _ in range(150):
            error = await failure(store.get("key"))
            assert len(error.code) <= 64
            assert len(str(error)) < 1000
    assert "other" in heard
    assert len(heard) == 101
