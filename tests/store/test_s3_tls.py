"""The S3 store over HTTPS, with a certificate that this machine trusts or does not."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from hf_agent.store.base import StoreRefused, StoreRetry
from support.certificates import write_certificate
from support.http_stub import Answer, StubServer, stub_server
from support.s3_stores import credentials, made_stores, make  # noqa: F401 - fixtures


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return write_certificate(tmp_path / "stub.pem")


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_an_untrusted_certificate_is_for_the_operator(tls: ssl.SSLContext) -> None:
    async with stub_server(tls) as stub:
        with pytest.raises(StoreRefused, match="AWS_CA_BUNDLE") as caught:
            await make(stub.url).get("key")
        assert caught.value.code == "untrusted"
        assert stub.requests == []


async def test_a_body_over_tls_is_not_hashed_for_its_signature(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    async with stub_server(tls) as stub:
        stub.respond = lambda request: Answer(headers={"ETag": '"e"'})
        store = make(stub.url)
        await store.create("key", [bytes(100_000), b"end"])
        (request,) = stub.requests
        assert request.body == bytes(100_000) + b"end"
        assert request.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
        await store.close()


def answer_etag(stub: StubServer) -> None:
    stub.respond = lambda request: Answer(headers={"ETag": '"e"'})


async def test_the_bundle_of_the_options_is_trusted(tls: ssl.SSLContext, certificate: Path) -> None:
    async with stub_server(tls) as stub:
        answer_etag(stub)
        store = make(stub.url, ca_bundle=str(certificate))
        await store.create("key", b"x")
        await store.close()


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "nonsense"])
async def test_a_bundle_that_cannot_be_used_is_for_the_operator(
    tls: ssl.SSLContext, tmp_path: Path, content: str | None
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    async with stub_server(tls) as stub:
        answer_etag(stub)
        store = make(stub.url, ca_bundle=str(bundle))
        with pytest.raises(
            StoreRefused, match=r"store\.s3\.ca_bundle cannot be used: .*bundle\.pem"
        ):
            await store.create("key", b"x")
        write_certificate(tmp_path / "good.pem").rename(bundle)
        with pytest.raises(StoreRefused, match="the certificate is not trusted"):
            await store.create("key", b"x")


async def test_a_certificate_for_another_name_is_not_trusted(
    tls: ssl.SSLContext, certificate: Path
) -> None:
    async with stub_server(tls) as stub:
        store = make(stub.url.replace("127.0.0.1", "localhost"), ca_bundle=str(certificate))
        with pytest.raises(StoreRefused, match="the certificate is not trusted"):
            await store.get("key")


async def test_a_server_that_speaks_no_tls_may_come_to_do_so(certificate: Path) -> None:
    async with stub_server() as stub:
        url = stub.url.replace("http:", "https:")
        with pytest.raises(StoreRetry, match="does the server speak TLS there") as caught:
            await make(url, ca_bundle=str(certificate)).get("key")
        assert caught.value.code == "tls"
