"""An S3 server in this process, for any test: moto's, with the conditions that it leaves out.

Import the fixtures by name (`from support.moto_s3 import moto_s3, s3_bucket`). What moto 5 does not
do by itself and `_Conditional` adds in front of it:

- a conditional write is not one step: two requests can both find that a key does not exist;
- `If-Match` on CompleteMultipartUpload is ignored (`If-None-Match: *` is not).
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from hf_agent.store.options import S3Options

__all__ = ["MotoS3", "moto_s3", "process_credentials", "running_moto", "s3_bucket"]

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
"""Environment for whoever talks to the server, so that nothing of the machine's is used."""


@dataclass(frozen=True, slots=True)
class MotoS3:
    """A running server."""

    endpoint_url: str

    @property
    def env(self) -> dict[str, str]:
        """Environment variables for a process that uses the server."""
        return dict(CREDENTIALS)

    def options(self, **changes: Any) -> S3Options:
        """Options for a store on this server."""
        named: dict[str, Any] = {"endpoint_url": self.endpoint_url, "addressing": "path"}
        return S3Options(**(named | changes))

    def make_bucket(self, name: str = "") -> str:
        """Create a bucket, under a name of its own unless one is given; returns the name."""
        name = name or f"test-{uuid.uuid4().hex[:12]}"
        with urlopen(Request(f"{self.endpoint_url}/{name}", method="PUT"), timeout=30):
            return name

    def unfinished_uploads(self, bucket: str) -> int:
        """Multipart uploads that were neither completed nor aborted."""
        return len(_backend().get_bucket(bucket).multiparts)


class _Conditional:
    """WSGI middleware: makes conditional writes one step, and adds what moto leaves out."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._one_writer = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if not ("HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ):
            return self._app(environ, start_response)  # type: ignore[no-any-return]
        with self._one_writer:
            if refusal := self._refusal(environ):
                # What is left unread would be taken for the next request.
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                status, code = refusal
                body = f"<Error><Code>{code}</Code><Message>refused</Message></Error>".encode()
                head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
                start_response(status, head)
                return [body]
            return list(self._app(environ, start_response))

    def _refusal(self, environ: dict[str, Any]) -> tuple[str, str] | None:
        expected = environ.get("HTTP_IF_MATCH")
        query = parse_qs(environ.get("QUERY_STRING", ""))
        if environ["REQUEST_METHOD"] != "POST" or "uploadId" not in query or expected is None:
            return None
        path = environ["PATH_INFO"].encode("latin-1").decode()
        bucket, _, key = path.lstrip("/").partition("/")
        found = _backend().get_object(bucket, key)
        if found is None:
            return "404 Not Found", "NoSuchKey"
        if found.etag.strip('"') != expected.strip('"'):
            return "412 Precondition Failed", "PreconditionFailed"
        return None


class _Server(ThreadedMotoServer):
    def _server_entry(self) -> None:
        app = _Conditional(DomainDispatcherApplication(create_backend_app))
        self._server = make_server(
            self._ip_address, self._port, app, True, request_handler=_QuietHandler
        )
        self._server_ready_event.set()
        try:
            self._server.serve_forever()
        finally:
            self._server.server_close()


class _QuietHandler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # as S3: connections are kept

    def log_request(self, *args: Any, **kwargs: Any) -> None:
        """Hundreds of lines per test help nobody."""


def _backend() -> Any:
    return s3_backends[DEFAULT_ACCOUNT_ID]["aws"]


@contextmanager
def process_credentials() -> Iterator[None]:
    """This process has the servers' credentials in its environment, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION"):
            patch.delenv(name, raising=False)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        yield


@contextmanager
def running_moto() -> Iterator[MotoS3]:
    """A server; its credentials are set in this process's environment."""
    server = _Server(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        with process_credentials():
            yield MotoS3(f"http://{host}:{port}")
    finally:
        server.stop()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[MotoS3]:
    """A server for all tests of the run; its credentials are set in this process's environment."""
    with running_moto() as server:
        yield server


@pytest.fixture
def s3_bucket(moto_s3: MotoS3) -> str:
    """A new, empty bucket on the server."""
    return moto_s3.make_bucket()
