"""What directory buckets refuse: from the notes on them in botocore's model of the S3 API.

AWS publishes the error for some rules only (a prefix without a slash: InvalidRequest; ListObjects:
NotSupported); elsewhere this answers 501 NotImplemented, S3's word for a header or a parameter that
implies what the server does not do.
"""

from __future__ import annotations

from collections.abc import Iterator

from support.s3_servers.messages import Request, Response, error_response
from support.s3_servers.operations import Operation

__all__ = ["refusal"]

_HEADERS = (
    "content-md5",
    "x-amz-acl",
    "x-amz-bypass-governance-retention",
    "x-amz-grant-",
    "x-amz-mfa",
    "x-amz-object-lock-",
    "x-amz-optional-object-attributes",
    "x-amz-request-payer",
    "x-amz-security-token",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-customer-",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
)
"""Headers that they do not take: names, or (ending in "-") how names begin."""

_VALUES = {
    "x-amz-storage-class": "EXPRESS_ONEZONE",
    "x-amz-server-side-encryption": "AES256",
}
"""Headers of which they take one value only. An encryption must be the bucket's own default: this
one's is AES256, and so it takes no key of the key service either."""

_PARAMETERS = (
    *("acl", "attributes", "cors", "legal-hold", "object-lock", "replication", "restore"),
    *("retention", "tagging", "torrent", "versioning", "versions", "website"),
    *("start-after", "upload-id-marker"),
)
"""Query parameters that they do not take."""


def refusal(operation: Operation, request: Request) -> Response | None:
    """The answer to a request that a directory bucket does not take; None when it does."""
    for name in _unsupported(request):
        message = f"directory buckets do not support {name}"
        return error_response(501, "NotImplemented", message, request)
    if operation in (Operation.LIST, Operation.LIST_MULTIPART):
        return _listing_refusal(operation, request)
    return None


def _unsupported(request: Request) -> Iterator[str]:
    for name, value in request.headers.items():
        for known in _HEADERS:
            if name == known or (known.endswith("-") and name.startswith(known)):
                yield name
        if _VALUES.get(name, value) != value:
            yield f"{name}: {value}"
    for name, value in request.query.items():
        if name in _PARAMETERS or (name == "versionId" and value != "null"):
            yield name


def _listing_refusal(operation: Operation, request: Request) -> Response | None:
    query = request.query
    if operation is Operation.LIST and query.get("list-type") != "2":
        return error_response(405, "NotSupported", "use ListObjectsV2", request)
    if (prefix := query.get("prefix", "")) and not prefix.endswith("/"):
        message = "This bucket does not support a prefix that does not end in a delimiter."
        return error_response(400, "InvalidRequest", message, request)
    if query.get("delimiter", "/") != "/":
        return error_response(400, "InvalidRequest", "the delimiter must be /", request)
    return None
