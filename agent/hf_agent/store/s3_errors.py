"""What a failed S3 request means: look again, try again, or tell an operator.

The error code decides; where there is none, or an unknown one, the HTTP status does (the answer to
a HEAD has no body, so there the status is all there is). Nothing here loses data: whatever may pass
by itself, expired and missing credentials among it, is to be tried again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from hf_agent.store.base import StoreError, StoreRefused, StoreRetry
from hf_agent.store.observer import coded
from hf_agent.store.s3_error_codes import (
    BY_CAUSE,
    BY_CODE,
    BY_OPERATION,
    BY_STATUS,
    CREDENTIAL_CODES,
    CREDENTIAL_ERRORS,
    OTHER_CAUSE,
    Cause,
    Meaning,
)

__all__ = ["KNOWN_ERRORS", "is_credential_error", "s3_error"]

_MAX_CODE, _MAX_SAID = 64, 500
"""Characters taken over from a server's answer."""

KNOWN_ERRORS = (
    ClientError,
    BotoCoreError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
    UnicodeError,
)
"""What a request may raise that `s3_error` understands; anything else is a bug."""

_FOR_CREDENTIALS = (
    *("AssumeRole", "AssumeRoleWithWebIdentity", "CreateSession"),
    *("CreateToken", "GetRoleCredentials"),
)
"""What botocore asks, of others than S3 too, before it can make the request itself."""


def s3_error(error: BaseException, operation: str, where: str) -> StoreError:
    """The store error for `error`, one of `KNOWN_ERRORS`; chain it to that when raising.

    `where` says what was asked for as `key=value` pairs.
    """
    if isinstance(error, ClientError):
        return _answered(error, operation, where)
    cause = _cause(error)
    reason = f"{cause.what}: {_detail(error)}; {cause.advice}"
    return coded(cause.kind(f"{operation} failed: {reason} {where}"), cause.code)


def is_credential_error(error: BaseException) -> bool:
    """Whether credentials should be looked up anew before the next request."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) in CREDENTIAL_CODES
    return isinstance(error, CREDENTIAL_ERRORS)


def _answered(error: ClientError, operation: str, where: str) -> StoreError:
    response: dict[str, Any] = error.response
    code = str(response.get("Error", {}).get("Code", "") or "")[:_MAX_CODE]
    said = " ".join(str(response.get("Error", {}).get("Message", "") or "").split())[
        :_MAX_SAID
    ].rstrip(".")
    meta = response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0) or 0)
    kind, advice = _meaning(error.operation_name, code, status)
    reason = f"{_lower(said)}; {advice}" if said and not code.isdecimal() else advice
    if error.operation_name in _FOR_CREDENTIALS:
        reason = f"{error.operation_name}: {reason}"
    pairs = [where, f"code={code}" if code and not code.isdecimal() else "", f"status={status}"]
    if location := meta.get("HTTPHeaders", {}).get("location"):
        pairs.append(f"location={location}")
    if request_id := meta.get("RequestId"):
        pairs.append(f"request_id={request_id}")
    text = " ".join(pair for pair in pairs if pair)
    return coded(kind(f"{operation} failed: {reason} {text}"), code or str(status))


def _meaning(asked: str, code: str, status: int) -> Meaning:
    if found := BY_OPERATION.get((asked, code)) or BY_CODE.get(code):
        return found
    if asked == "HeadObject" and status == 400:
        # AWS answers a HEAD with expired credentials like this, and cannot say so.
        return Meaning(StoreRetry, "have the credentials expired, or is the region wrong?")
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return Meaning(StoreRetry, "the server is overloaded or down")
    return Meaning(StoreRefused, "the server does not take the request")


def _cause(error: BaseException) -> Cause:
    chain = tuple(_chain(error))
    for cause in BY_CAUSE:
        if any(isinstance(each, cause.errors) for each in chain):
            return cause
    return OTHER_CAUSE


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error`, and the one of the library below that it stands for."""
    yield error
    inner = getattr(error, "kwargs", {}).get("error")
    if isinstance(inner, BaseException):
        yield inner


def _detail(error: BaseException) -> str:
    """What happened, in the words of the innermost library that says so."""
    *_, inner = _chain(error)
    return _lower(" ".join(str(inner).split()).rstrip(".") or type(inner).__name__)


def _lower(text: str) -> str:
    """`text` with a small first letter, unless it begins with an abbreviation."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
