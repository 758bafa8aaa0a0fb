"""An S3 of one object that lets in only who signs with one of the access keys it knows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from support.http_stub import Answer, Recorded

__all__ = ["KeyGate", "error_answer"]

_CREDENTIAL = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/")
_OBJECT = {"ETag": '"e"', "Content-Length": "0", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}


def error_answer(
    status: int, code: str, *, head: bool = False, region: str = "", **headers: str
) -> Answer:
    """S3's answer for an error; that to a HEAD has no body. `region` stands in the body."""
    inner = f"<Code>{code}</Code><Message>Some words.</Message>"
    body = f"<Error>{inner}{f'<Region>{region}</Region>' if region else ''}</Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, b"" if head else body.encode(), named)


@dataclass
class KeyGate:
    """Give it to a `StubServer` as `respond`."""

    allowed: set[str]
    status: int = 403
    code: str = "InvalidAccessKeyId"
    """What the others are told."""
    used: list[str] = field(default_factory=list)
    """The access key of each request."""
    requests: list[Recorded] = field(default_factory=list)

    def __call__(self, request: Recorded) -> Answer:
        found = _CREDENTIAL.search(request.headers.get("authorization", ""))
        key = found[1] if found else ""
        self.used.append(key)
        self.requests.append(request)
        if key not in self.allowed:
            return error_answer(self.status, self.code, head=request.method == "HEAD")
        return Answer(204 if request.method == "DELETE" else 200, headers=dict(_OBJECT))
