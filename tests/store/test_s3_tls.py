"""The S3 store over HTTPS, with a certificate that this machine trusts or does not."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hf_agent.store.base import StoreRefused
from support.http_stub import Answer, stub_server
from support.s3_stores import credentials, made_stores, make  # noqa: F401 - fixtures


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stub")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "stub.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


async def test_an_untrusted_certificate_is_for_the_operator(tls: ssl.SSLContext) -> None:
    async with stub_server(tls) as stub:
        with pytest.raises(StoreRefused, match="AWS_CA_BUNDLE"):
            await make(stub.url).get("key")
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
