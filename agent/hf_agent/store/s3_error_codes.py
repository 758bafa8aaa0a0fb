"""Every way in which S3 fails that means something of its own: its class, and what helps.

docs/s3.md shows these tables to operators; a test holds the two together. Codes that S3 answers are
written as S3 writes them, those that are found here in small letters.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

import aiohttp
from botocore.exceptions import (
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoAuthTokenError,
    NoCredentialsError,
    PartialCredentialsError,
    ProxyConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError

from hf_agent.store.base import (
    StoreConflict,
    StoreError,
    StoreNotFound,
    StoreRefused,
    StoreRetry,
)

__all__ = [
    "BY_CAUSE",
    "BY_CODE",
    "BY_OPERATION",
    "BY_STATUS",
    "CREDENTIAL_CODES",
    "CREDENTIAL_ERRORS",
    "OTHER_CAUSE",
    "Cause",
    "Meaning",
]


class Meaning(NamedTuple):
    """What an answer means."""

    kind: type[StoreError]
    advice: str


class Cause(NamedTuple):
    """What the lack of an answer means."""

    errors: tuple[type[BaseException], ...]
    """Of the HTTP client, of botocore or of the system."""
    code: str
    kind: type[StoreError]
    what: str
    advice: str


CREDENTIAL_ERRORS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    NoAuthTokenError,
    MetadataRetrievalError,
    SSOError,
)

_REGION = "set store.s3.region to the region of the bucket"
_EXPIRED = "the credentials have expired; renew them"
_SKEWED = "set the clock of this machine"
_SLOWER = "the server asks for fewer requests"
_ROLE = "let the trust policy of store.s3.role_arn (and its external id) allow these credentials"

BY_CODE: dict[str, Meaning] = {
    "NoSuchKey": Meaning(StoreNotFound, "there is no such object"),
    "PreconditionFailed": Meaning(StoreConflict, "the object exists, or has changed"),
    "NoSuchBucket": Meaning(StoreRefused, "create the bucket, or correct store.url"),
    "AccessDenied": Meaning(
        StoreRefused,
        "allow reading, writing, deleting and s3:ListBucket (else missing objects answer so too)",
    ),
    "AllAccessDisabled": Meaning(StoreRefused, "have the bucket enabled again"),
    "AccountProblem": Meaning(StoreRefused, "settle it with the provider"),
    "InvalidAccessKeyId": Meaning(StoreRefused, "correct the credentials"),
    "InvalidClientTokenId": Meaning(StoreRefused, "correct the credentials"),
    "SignatureDoesNotMatch": Meaning(StoreRefused, "correct the credentials"),
    "PermanentRedirect": Meaning(StoreRefused, _REGION),
    "AuthorizationHeaderMalformed": Meaning(StoreRefused, _REGION),
    "IllegalLocationConstraintException": Meaning(StoreRefused, _REGION),
    "TemporaryRedirect": Meaning(StoreRetry, "the bucket's name is new and not known there yet"),
    "KMS.DisabledException": Meaning(StoreRefused, "enable the key of store.s3.sse_kms_key_id"),
    "KMS.NotFoundException": Meaning(StoreRefused, "correct store.s3.sse_kms_key_id"),
    "InvalidStorageClass": Meaning(StoreRefused, "correct store.s3.storage_class"),
    "InvalidObjectState": Meaning(StoreRefused, "the object is archived; restore it"),
    "NotImplemented": Meaning(
        StoreRefused,
        "the server lacks conditional writes or something else that is needed; use another one",
    ),
    "ExpiredToken": Meaning(StoreRetry, _EXPIRED),
    "ExpiredTokenException": Meaning(StoreRetry, _EXPIRED),
    "TokenRefreshRequired": Meaning(StoreRetry, _EXPIRED),
    "InvalidToken": Meaning(StoreRetry, "the session token is not valid (any more); renew it"),
    "RequestTimeTooSkewed": Meaning(StoreRetry, _SKEWED),
    "RequestExpired": Meaning(StoreRetry, _SKEWED),
    "ConditionalRequestConflict": Meaning(StoreRetry, "another write to the object is in progress"),
    "OperationAborted": Meaning(StoreRetry, "another operation on the object is in progress"),
    "NoSuchUpload": Meaning(StoreRetry, "the multipart upload is gone; it starts afresh"),
    "InvalidPart": Meaning(StoreRetry, "a part of the multipart upload is gone; it starts afresh"),
    "BadDigest": Meaning(StoreRetry, "the body was damaged on its way"),
    "IncompleteBody": Meaning(StoreRetry, "the body was cut on its way"),
    "XAmzContentSHA256Mismatch": Meaning(StoreRetry, "the body was damaged on its way"),
    "RequestTimeout": Meaning(StoreRetry, "the server waited too long for the body"),
    "SlowDown": Meaning(StoreRetry, _SLOWER),
    "ServiceUnavailable": Meaning(StoreRetry, "the server is overloaded or down"),
    "InternalError": Meaning(StoreRetry, "the server had an error of its own"),
    "Throttling": Meaning(StoreRetry, _SLOWER),
    "ThrottlingException": Meaning(StoreRetry, _SLOWER),
    "KMS.ThrottlingException": Meaning(StoreRetry, "the key service asks for fewer requests"),
    "TooManyRequests": Meaning(StoreRetry, _SLOWER),
    "RequestLimitExceeded": Meaning(StoreRetry, _SLOWER),
    "BandwidthLimitExceeded": Meaning(StoreRetry, "the server asks for less traffic"),
}
"""S3 error codes that mean more than their HTTP status does."""

BY_OPERATION: dict[tuple[str, str], Meaning] = {
    ("CreateSession", "AccessDenied"): Meaning(
        StoreRefused, "allow s3express:CreateSession on the directory bucket"
    ),
    ("AssumeRole", "AccessDenied"): Meaning(StoreRefused, _ROLE),
    ("AssumeRoleWithWebIdentity", "AccessDenied"): Meaning(
        StoreRefused, "let the trust policy of the role (AWS_ROLE_ARN) allow this identity"
    ),
    ("AssumeRoleWithWebIdentity", "InvalidIdentityToken"): Meaning(
        StoreRetry, "the token in AWS_WEB_IDENTITY_TOKEN_FILE is not valid (any more); renew it"
    ),
}
"""The same for what botocore asks on the way to a request: operation and code."""

_MOVED = Meaning(
    StoreRefused, "the server sends elsewhere; correct store.s3.endpoint_url (http or https?)"
)

BY_STATUS: dict[int, Meaning] = {
    301: _MOVED,
    302: _MOVED,
    307: _MOVED,
    308: _MOVED,
    400: Meaning(
        StoreRefused, "the server does not take the request; are region and endpoint right?"
    ),
    403: Meaning(
        StoreRefused,
        "correct credentials or policy (without s3:ListBucket, missing objects answer so too)",
    ),
    404: Meaning(StoreNotFound, "there is no such object"),
    408: Meaning(StoreRetry, "the server waited too long"),
    409: Meaning(StoreRetry, "another operation is in progress"),
    412: Meaning(StoreConflict, "the object exists, or has changed"),
    416: Meaning(StoreRefused, "the range lies outside of the object"),
    429: Meaning(StoreRetry, _SLOWER),
    501: Meaning(StoreRefused, "the server lacks something that is needed; use another one"),
}
"""What a status means where the code is none of these: the answer to a HEAD has no code at all."""

CREDENTIAL_CODES = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "TokenRefreshRequired",
        "InvalidToken",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "SignatureDoesNotMatch",
    }
)
"""Codes after which credentials are looked up anew."""

BY_CAUSE: tuple[Cause, ...] = (
    Cause(
        CREDENTIAL_ERRORS,
        "credentials",
        StoreRetry,
        "no usable credentials",
        "provide them, they are looked up again",
    ),
    Cause(
        (aiohttp.ClientConnectorCertificateError,),
        "untrusted",
        StoreRefused,
        "the certificate is not trusted",
        "correct store.s3.endpoint_url, or set store.s3.ca_bundle (or AWS_CA_BUNDLE)",
    ),
    Cause(
        (aiohttp.ClientSSLError, SSLError),
        "tls",
        StoreRetry,
        "no TLS connection",
        "does the server speak TLS there (https), or is http right?",
    ),
    Cause(
        (aiohttp.ClientConnectorDNSError, socket.gaierror),
        "unresolved",
        StoreRetry,
        "the server's name is not found",
        "does name resolution work here, and are region and store.s3.endpoint_url right?",
    ),
    Cause(
        (ProxyConnectionError, aiohttp.ClientProxyConnectionError, aiohttp.ClientHttpProxyError),
        "proxy",
        StoreRetry,
        "no way through the proxy",
        "is store.s3.proxy (or HTTPS_PROXY) right, and up?",
    ),
    Cause(
        (ConnectTimeoutError, ReadTimeoutError, TimeoutError),
        "timeout",
        StoreRetry,
        "no answer in time",
        "is the server up and reachable?",
    ),
    Cause(
        (
            *(IncompleteReadError, ResponseStreamingError, FlexibleChecksumError),
            aiohttp.ClientPayloadError,
        ),
        "truncated",
        StoreRetry,
        "the answer was cut",
        "is the network well?",
    ),
    Cause(
        (ResponseParserError,),
        "malformed",
        StoreRetry,
        "the answer is not one of S3",
        "does something stand between here and the server?",
    ),
    Cause(
        (ConnectionClosedError, aiohttp.ServerDisconnectedError),
        "disconnected",
        StoreRetry,
        "the connection was closed",
        "is the server up and reachable?",
    ),
    Cause(
        (HTTPClientError, BotoConnectionError, aiohttp.ClientError, OSError),
        "unreachable",
        StoreRetry,
        "no connection",
        "is the server up and reachable?",
    ),
)
"""What keeps an answer from coming; the first that fits counts."""

OTHER_CAUSE = Cause(
    (Exception,), "options", StoreRefused, "no such request", "correct store.url or [store.s3]"
)
"""What is left: botocore does not make a request with such options, buckets or keys."""
