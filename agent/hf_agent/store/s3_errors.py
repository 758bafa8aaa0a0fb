"""What a failed S3 request means: look again, try again, or tell an operator.

The error code decides; where there is none, or an unknown one, the HTTP status does (the answer to
a HEAD has no body, so there the status is all there is). Nothing here loses data: whatever may pass
by itself, expired and missing credentials among it, is to be tried again.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from hf_agent.store.base import (
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)
from hf_agent.store.observer import coded

__all__ = [
    "CREDENTIAL_CODES",
    "CREDENTIAL_ERRORS",
    "KNOWN_ERRORS",
    "is_credential_error",
    "s3_error",
]

CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    NoAuthTokenError,
    MetadataRetrievalError,
    SSOError,
)

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

_UNREACHABLE = (
    HTTPClientError,
    ConnectionError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
    aiohttp.ClientError,
    TimeoutError,
    OSError,
)

_BY_CODE: dict[str, tuple[type[StoreError], str]] = {
    "NoSuchKey": (StoreNotFound, "there is no such object"),
    "PreconditionFailed": (StoreConflict, "the object exists, or has changed"),
    "NoSuchBucket": (StoreRefused, "create the bucket, or correct store.url"),
    "AccessDenied": (
        StoreRefused,
        "allow reading, writing, deleting and s3:ListBucket (else missing objects answer so too)",
    ),
    "InvalidAccessKeyId": (StoreRefused, "correct the credentials"),
    "SignatureDoesNotMatch": (StoreRefused, "correct the credentials"),
    "PermanentRedirect": (StoreRefused, "set store.s3.region to the region of the bucket"),
    "AuthorizationHeaderMalformed": (
        StoreRefused,
        "set store.s3.region to the region of the bucket",
    ),
    "IllegalLocationConstraintException": (
        StoreRefused,
        "set store.s3.region to the region of the bucket",
    ),
    "NotImplemented": (
        StoreRefused,
        "the server lacks conditional writes or something else that is needed; use another one",
    ),
    "ExpiredToken": (StoreRetry, "the credentials have expired; renew them"),
    "ExpiredTokenException": (StoreRetry, "the credentials have expired; renew them"),
    "TokenRefreshRequired": (StoreRetry, "the credentials have expired; renew them"),
    "InvalidToken": (StoreRetry, "the session token is not valid (any more); renew it"),
    "RequestTimeTooSkewed": (StoreRetry, "set the clock of this machine"),
    "RequestExpired": (StoreRetry, "set the clock of this machine"),
    "ConditionalRequestConflict": (StoreRetry, "another write to the object is in progress"),
    "OperationAborted": (StoreRetry, "another operation on the object is in progress"),
    "NoSuchUpload": (StoreRetry, "the multipart upload is gone; it starts afresh"),
    "InvalidPart": (StoreRetry, "a part of the multipart upload is gone; it starts afresh"),
    "BadDigest": (StoreRetry, "the body was damaged on its way"),
    "IncompleteBody": (StoreRetry, "the body was cut on its way"),
    "XAmzContentSHA256Mismatch": (StoreRetry, "the body was damaged on its way"),
    "RequestTimeout": (StoreRetry, "the server waited too long for the body"),
    "SlowDown": (StoreRetry, "the server asks for fewer requests"),
    "ServiceUnavailable": (StoreRetry, "the server is overloaded or down"),
    "InternalError": (StoreRetry, "the server had an error of its own"),
    "Throttling": (StoreRetry, "the server asks for fewer requests"),
    "ThrottlingException": (StoreRetry, "the server asks for fewer requests"),
    "KMS.ThrottlingException": (StoreRetry, "the key service asks for fewer requests"),
    "TooManyRequests": (StoreRetry, "the server asks for fewer requests"),
    "RequestLimitExceeded": (StoreRetry, "the server asks for fewer requests"),
    "BandwidthLimitExceeded": (StoreRetry, "the server asks for less traffic"),
}
"""S3 error codes that mean more than their HTTP status does."""

CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "InvalidToken",
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
    }
)
"""Codes after which credentials are looked up anew."""

_BY_STATUS: dict[int, tuple[type[StoreError], str]] = {
    400: (StoreRefused, "the server does not take the request; are region and endpoint right?"),
    403: (
        StoreRefused,
        "correct credentials or policy (without s3:ListBucket, missing objects answer so too)",
    ),
    404: (StoreNotFound, "there is no such object"),
    408: (StoreRetry, "the server waited too long"),
    409: (StoreRetry, "another operation is in progress"),
    412: (StoreConflict, "the object exists, or has changed"),
    416: (StoreRefused, "the range lies outside of the object"),
    429: (StoreRetry, "the server asks for fewer requests"),
    501: (StoreRefused, "the server lacks something that is needed; use another one"),
}


def s3_error(error: BaseException, operation: str, where: str) -> StoreError:
    """The store error for `error`, one of `KNOWN_ERRORS`; chain it to that when raising.

    `where` says what was asked for as `key=value` pairs.
    """
    if isinstance(error, ClientError):
        return _answered(error, operation, where)
    name = type(error).__name__
    detail = _cause(error)
    if isinstance(error, CREDENTIAL_ERRORS):
        reason = f"no usable credentials: {detail}; provide them, they are looked up again"
        return coded(StoreRetry(f"{operation} failed: {reason} {where}"), name)
    cause = getattr(error, "kwargs", {}).get("error", error)
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        reason = f"the certificate is not trusted: {detail}; correct store.s3.endpoint_url or set "
        return coded(StoreRefused(f"{operation} failed: {reason}AWS_CA_BUNDLE {where}"), name)
    if isinstance(error, _UNREACHABLE):
        reason = f"no whole answer from the server: {detail}; is it up and reachable?"
        return coded(StoreRetry(f"{operation} failed: {reason} {where}"), name)
    reason = f"{detail}; correct store.url or [store.s3]"
    return coded(StoreRefused(f"{operation} failed: {reason} {where}"), name)


def is_credential_error(error: BaseException) -> bool:
    """Whether credentials should be looked up anew before the next request."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "")) in CREDENTIAL_CODES
    return isinstance(error, CREDENTIAL_ERRORS)


def _answered(error: ClientError, operation: str, where: str) -> StoreError:
    response: dict[str, Any] = error.response
    code = str(response.get("Error", {}).get("Code", "") or "")
    said = str(response.get("Error", {}).get("Message", "") or "").rstrip(".")
    meta = response.get("ResponseMetadata", {})
    status = int(meta.get("HTTPStatusCode", 0) or 0)
    head = operation == "head"
    if code in _BY_CODE:
        kind, advice = _BY_CODE[code]
    elif head and status == 400:
        # AWS answers a HEAD with expired credentials like this, and cannot say so.
        kind, advice = StoreRetry, "have the credentials expired, or is the region wrong?"
    elif status in _BY_STATUS:
        kind, advice = _BY_STATUS[status]
    elif status >= 500:
        kind, advice = StoreRetry, "the server is overloaded or down"
    else:
        kind, advice = StoreRefused, "the server does not take the request"
    reason = f"{_lower(said)}; {advice}" if said and not code.isdecimal() else advice
    pairs = [where, f"code={code}" if code and not code.isdecimal() else "", f"status={status}"]
    if request_id := meta.get("RequestId"):
        pairs.append(f"request_id={request_id}")
    text = " ".join(pair for pair in pairs if pair)
    return coded(kind(f"{operation} failed: {reason} {text}"), code or str(status))


def _cause(error: BaseException) -> str:
    """What happened, in the words of the innermost library that says so."""
    inner = getattr(error, "kwargs", {}).get("error", error)
    return _lower(" ".join(str(inner).split()).rstrip(".") or type(inner).__name__)


def _lower(text: str) -> str:
    """`text` with a small first letter, unless it begins with an abbreviation."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
