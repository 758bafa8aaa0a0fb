"""Commands against S3: `check-config --probe`, and reading with the options of a configuration."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from support.certificates import write_certificate
from support.moto_s3 import MotoS3, moto_s3  # noqa: F401 - a fixture


def write_config(folder: Path, url: str, *lines: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(
        f'[agent]\ndata_dir = "{folder}/data"\n[[listen]]\npath = "{folder}/data/a.sock"\n'
        f'[store]\nurl = "{url}"\n[store.s3]\n' + "\n".join(lines) + '\n[http]\nlisten = ""\n'
    )
    return path


def probe(path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status, and what is wrong with the store."""
    status = main(["check-config", "--probe", "--json", "--config", str(path)])
    out, err = capsys.readouterr()
    assert err == ""
    (store,) = [each for each in json.loads(out) if each["what"].startswith("store ")]
    return status, store["fault"]


def test_the_probe_passes_a_good_bucket_and_leaves_nothing(
    tmp_path: Path,
    moto_s3: MotoS3,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    bucket = moto_s3.make_bucket()
    lines = (f'endpoint_url = "{moto_s3.endpoint_url}"', 'addressing = "path"')
    path = write_config(tmp_path, f"s3://{bucket}/logs", *lines, 'checksum = "crc32c"')
    assert probe(path, capsys) == (0, "")
    assert main(["ls", f"s3://{bucket}", "--config", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert moto_s3.unfinished_uploads(bucket) == 0


def test_the_probe_names_a_missing_bucket(
    tmp_path: Path,
    moto_s3: MotoS3,  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = (f'endpoint_url = "{moto_s3.endpoint_url}"', 'addressing = "path"')
    path = write_config(tmp_path, "s3://not-there", *lines)
    status, fault = probe(path, capsys)
    assert status == 69
    assert "create the bucket, or correct store.url" in fault


class _Denying(BaseHTTPRequestHandler):
    """Knows nobody's rights, over TLS."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def denying(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The URL of a server, and the certificate that it has."""
    certificate = write_certificate(tmp_path / "stub.pem")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = HTTPServer(("127.0.0.1", 0), _Denying)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}", certificate
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("moto_s3")
def test_the_probe_names_a_missing_right_and_commands_trust_the_bundle_of_the_configuration(
    tmp_path: Path, denying: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    url, certificate = denying
    lines = (f'endpoint_url = "{url}"', 'addressing = "path"', 'region = "us-east-1"')
    trusting = write_config(tmp_path, "s3://bucket", *lines, f'ca_bundle = "{certificate}"')
    status, fault = probe(trusting, capsys)
    assert status == 69
    assert fault.startswith("listing is denied: allow s3:ListBucket on the bucket (else S3 answers")
    for command in (["ls", "s3://bucket"], ["cat", "s3://bucket/a"], ["stat", "s3://bucket/a"]):
        assert main([*command, "--config", str(trusting)]) == 69
        assert "code=AccessDenied" in capsys.readouterr().err
        doubting = write_config(tmp_path, "s3://bucket", *lines)
        assert main([*command, "--config", str(doubting)]) == 69
        assert "the certificate is not trusted" in capsys.readouterr().err
        write_config(tmp_path, "s3://bucket", *lines, f'ca_bundle = "{certificate}"')
