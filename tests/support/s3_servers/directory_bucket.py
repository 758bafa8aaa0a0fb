"""A handler with the rules of S3 Express directory buckets, in front of a general-purpose server.

Requests are path-style, as botocore sends them for such a bucket to an endpoint that is an IP
address. Everything that writes to the buckets has to come through one and the same handler: it
knows the etags.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

from support.s3_servers.directory_etags import OpaqueEtags
from support.s3_servers.directory_listing import list_unordered
from support.s3_servers.directory_rules import refusal
from support.s3_servers.directory_sessions import Sessions
from support.s3_servers.messages import Request, Response, error_response
from support.s3_servers.operations import Operation, operation_of
from support.s3_servers.proxy import Handler, Reply

__all__ = ["DirectoryBuckets"]

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]*--[a-z0-9]+-az\d+--x-s3")
_ETAG_ELEMENT = re.compile(rb"<ETag>(?:&quot;|&#34;|\")?([^<&\"]*)(?:&quot;|&#34;|\")?</ETag>")
_PART_ELEMENT = re.compile(rb"<PartNumber>(\d+)</PartNumber>")


class DirectoryBuckets:
    """Answers CreateSession, refuses what is to be refused, and passes the rest on to `inner`."""

    def __init__(
        self, inner: Handler, sessions: Sessions, sign: Callable[[Request], Request]
    ) -> None:
        """`sign` makes a request one that `inner` accepts: the sessions are not known there."""
        self._inner = inner
        self._sign = sign
        self._sessions = sessions
        self._etags = OpaqueEtags()
        self._writing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._uploads: dict[str, str] = {}

    async def __call__(self, request: Request) -> Reply:
        """Handle one request."""
        response = await self._answer(request)
        # S3's own date, where this answers instead of the server.
        response.headers.setdefault("date", formatdate(usegmt=True))
        return Reply(response)

    async def _answer(self, request: Request) -> Response:
        operation = operation_of(request)
        if not _BUCKET_NAME.fullmatch(request.bucket):
            return error_response(404, "NoSuchBucket", "no directory bucket", request)
        if operation is Operation.CREATE_SESSION:
            return self._sessions.create(request)
        if refused := self._sessions.refusal(request) or refusal(operation, request):
            return refused
        match operation:
            case Operation.LIST:
                return await list_unordered(
                    request,
                    self._signed_inner,
                    uploads=self._uploads.values(),
                    etag=lambda key, etag: self._etags.shown(f"{request.bucket}/{key}", etag),
                )
            case Operation.PUT | Operation.CONDITIONAL_PUT | Operation.COMPLETE_MULTIPART:
                async with self._writing[request.path]:
                    return await self._write(operation, request)
            case Operation.UPLOAD_PART:
                return await self._upload_part(request)
            case Operation.START_MULTIPART | Operation.ABORT_MULTIPART:
                return await self._start_or_abort(operation, request)
        return self._shown(request, await self._ask(request))

    async def _write(self, operation: Operation, request: Request) -> Response:
        if operation is Operation.COMPLETE_MULTIPART:
            numbers = [int(number) for number in _PART_ELEMENT.findall(request.body)]
            if numbers != list(range(1, len(numbers) + 1)):
                message = "part numbers must be consecutive, from 1 on"
                return error_response(400, "InvalidPartOrder", message, request)
            request = replace(request, body=self._with_own_part_etags(request))
        response = await self._ask(request)
        if response.status != 200 or b"<Error>" in response.body:
            return response
        upload = request.query.get("uploadId")
        # A completion that comes twice is answered twice, and has written once.
        again = upload is not None and self._uploads.pop(upload, None) is None
        found = _ETAG_ELEMENT.search(response.body)
        own = found[1].decode() if found else response.headers["etag"].strip('"')
        written = self._etags.shown if again else self._etags.written
        shown = written(request.path.lstrip("/"), own)
        response.body = _ETAG_ELEMENT.sub(f'<ETag>"{shown}"</ETag>'.encode(), response.body)
        if "etag" in response.headers:
            response.headers["etag"] = f'"{shown}"'
        return response

    async def _upload_part(self, request: Request) -> Response:
        response = await self._ask(request)
        if response.status == 200:
            query = request.query
            place = f"{query['uploadId']}#{query['partNumber']}"
            own = response.headers["etag"].strip('"')
            response.headers["etag"] = f'"{self._etags.written(place, own)}"'
        return response

    async def _start_or_abort(self, operation: Operation, request: Request) -> Response:
        response = await self._ask(request)
        if operation is Operation.START_MULTIPART and response.status == 200:
            found = re.search(rb"<UploadId>([^<]*)</UploadId>", response.body)
            assert found is not None
            self._uploads[found[1].decode()] = request.key
        elif operation is Operation.ABORT_MULTIPART and response.status in (204, 404):
            self._uploads.pop(request.query["uploadId"], None)
        return response

    def _with_own_part_etags(self, request: Request) -> bytes:
        upload = request.query["uploadId"]
        numbers = iter(_PART_ELEMENT.findall(request.body))

        def own(found: re.Match[bytes]) -> bytes:
            place = f"{upload}#{int(next(numbers))}"
            return f"<ETag>{self._etags.own(place, found[1].decode())}</ETag>".encode()

        return _ETAG_ELEMENT.sub(own, request.body)

    async def _ask(self, request: Request) -> Response:
        """The server's answer to a request whose conditions name etags that were shown."""
        headers = dict(request.headers)
        for name in ("if-match", "if-none-match"):
            if headers.get(name, "*") != "*":
                own = self._etags.own(request.path.lstrip("/"), headers[name].strip('"'))
                headers[name] = f'"{own}"'
        headers.pop("x-amz-storage-class", None)  # checked, and unknown elsewhere
        return (await self._signed_inner(replace(request, headers=headers))).response

    def _shown(self, request: Request, response: Response) -> Response:
        if "etag" in response.headers and request.key:
            own = response.headers["etag"].strip('"')
            response.headers["etag"] = f'"{self._etags.shown(request.path.lstrip("/"), own)}"'
        return response

    async def _signed_inner(self, request: Request) -> Reply:
        return await self._inner(self._sign(request))
