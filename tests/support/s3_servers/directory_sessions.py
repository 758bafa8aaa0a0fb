"""Sessions of directory buckets: made by CreateSession, named by each request, and short-lived."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from hf_agent.clock import Clock
from support.s3_servers.messages import Request, Response, error_response

__all__ = ["Sessions"]

_TOKEN = "x-amz-s3session-token"


@dataclass(frozen=True, slots=True)
class _Session:
    access_key: str
    bucket: str
    ends: float


class Sessions:
    """Issues sessions, and checks those of requests.

    AWS names the code for an expired token (ExpiredToken, status 400); for a token that is missing
    or of another bucket it documents none, and this answers as general-purpose buckets do.
    """

    def __init__(self, clock: Clock, *, lifetime: float, announced: float | None = None) -> None:
        """`lifetime` in seconds; `announced` is what clients are told, else the same."""
        self._clock = clock
        self._lifetime = lifetime
        self._announced = lifetime if announced is None else announced
        self._by_token: dict[str, _Session] = {}
        self.created = 0
        """Sessions that were made."""
        self.expired = 0
        """Requests that were refused because their session had ended."""

    def create(self, request: Request) -> Response:
        """Answer CreateSession."""
        if not request.headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 "):
            return error_response(403, "AccessDenied", "Access Denied", request)
        now = self._clock.time()
        self.created += 1
        token, access_key = uuid.uuid4().hex, f"ASIA{uuid.uuid4().hex[:16].upper()}"
        self._by_token[token] = _Session(access_key, request.bucket, now + self._lifetime)
        told = datetime.fromtimestamp(now + self._announced, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<CreateSessionResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Credentials>'
            f"<SessionToken>{token}</SessionToken><SecretAccessKey>secret</SecretAccessKey>"
            f"<AccessKeyId>{access_key}</AccessKeyId><Expiration>{told}</Expiration>"
            "</Credentials></CreateSessionResult>"
        )
        return Response(200, {"content-type": "application/xml"}, body.encode())

    def refusal(self, request: Request) -> Response | None:
        """Why a request is not let in; None when it is."""
        if _TOKEN not in request.headers:
            return error_response(403, "AccessDenied", "a session token is required", request)
        session = self._by_token.get(request.headers[_TOKEN])
        if session is None or session.bucket != request.bucket:
            return error_response(400, "InvalidToken", "The provided token is malformed.", request)
        signature = request.headers.get("authorization", "")
        if f"Credential={session.access_key}/" not in signature or "/s3express/" not in signature:
            message = "the request is not signed with its session"
            return error_response(403, "SignatureDoesNotMatch", message, request)
        if self._clock.time() >= session.ends:
            self.expired += 1
            return error_response(400, "ExpiredToken", "The provided token has expired.", request)
        return None

    def end_all(self) -> None:
        """Let every session that was made so far be expired."""
        for token, session in self._by_token.items():
            self._by_token[token] = _Session(session.access_key, session.bucket, 0.0)
