"""HTTP/1.1 requests and responses as values: read from a stream, and written to bytes.

Bodies are held whole: objects in tests are small. Knows what S3 clients and servers send, not all
of HTTP: no trailers, no upgrades, one value per header name.
"""

from __future__ import annotations

from asyncio import IncompleteReadError, StreamReader, StreamWriter
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Request", "Response", "error_response", "read_request", "read_response"]

MAX_HEAD_BYTES = 1 << 20
"""Longest head of a message: what the streams of both sides are opened with."""

_HOP_BY_HOP = ("transfer-encoding", "connection", "keep-alive", "expect", "content-length")


@dataclass(slots=True)
class Request:
    """A request; header names are in lower case."""

    method: str
    target: str
    """Path and query as they came: what a signature is over."""
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """The path, decoded."""
        return unquote(urlsplit(self.target).path)

    @property
    def bucket(self) -> str:
        """The bucket of a path-style request."""
        return self.path.lstrip("/").partition("/")[0]

    @property
    def key(self) -> str:
        """The key of a path-style request; empty when it is about the bucket."""
        return self.path.lstrip("/").partition("/")[2]

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def encode(self, *, close: bool = False) -> bytes:
        """The bytes on the wire; with `close`, the server is asked to end the connection."""
        headers = {**self.headers, "connection": "close"} if close else self.headers
        return _encode(f"{self.method} {self.target} HTTP/1.1", headers, self.body)


@dataclass(slots=True)
class Response:
    """A response; header names are in lower case."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    to_head: bool = False
    """Whether it answers a HEAD: `content-length` is kept as it is, and no body follows."""

    def encode(self) -> tuple[bytes, bytes]:
        """Head and body as on the wire."""
        phrase = HTTPStatus(self.status).phrase
        start = f"HTTP/1.1 {self.status} {phrase}"
        length = self.headers.get("content-length") if self.to_head else None
        head = _encode(start, self.headers, b"", length=length or str(len(self.body)))
        return head, b"" if self.to_head else self.body


def error_response(status: int, code: str, message: str, request: Request) -> Response:
    """An answer as S3 gives it when something is wrong; without a body to a HEAD."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    if request.method == "HEAD":
        return Response(status, to_head=True)
    return Response(status, {"content-type": "application/xml"}, body)


async def read_request(reader: StreamReader, writer: StreamWriter) -> Request | None:
    """The next request of a connection; None when the client has ended it between two."""
    try:
        start, headers = await _read_head(reader)
    except IncompleteReadError as error:
        if error.partial:
            raise
        return None
    method, target, _ = start.split(" ")
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await _read_body(reader, headers) if "content-length" in headers else b""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_body(reader, headers)
    return Request(method, target, _without_hop_by_hop(headers), body)


async def read_response(reader: StreamReader, method: str) -> Response:
    """The answer to a request of this method, after any "100 Continue"."""
    status = 100
    while status == 100:
        start, headers = await _read_head(reader)
        status = int(start.split(" ")[1])
    length = headers.get("content-length")
    bare = method == "HEAD" or status in (204, 304)
    body = b"" if bare else await _read_body(reader, headers)
    kept = _without_hop_by_hop(headers)
    if method == "HEAD" and length is not None:
        kept["content-length"] = length
    return Response(status, kept, body, to_head=method == "HEAD")


def _encode(start: str, headers: dict[str, str], body: bytes, *, length: str = "") -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
    if length:
        lines = [line for line in lines if not line.startswith("content-length:")]
    lines.append(f"content-length: {length or len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def _read_head(reader: StreamReader) -> tuple[str, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head[:-4].split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return start, headers


async def _read_body(reader: StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = bytearray()
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return bytes(body)
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read()


def _without_hop_by_hop(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
