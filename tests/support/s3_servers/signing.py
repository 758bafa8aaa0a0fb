"""Signing for a server that checks signatures, where a client's own cannot be passed on."""

from __future__ import annotations

from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from support.moto_s3 import CREDENTIALS
from support.s3_servers.messages import Request

__all__ = ["make_bucket", "signed_again"]

_OF_A_SIGNATURE = (
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-s3session-token",
    "x-amz-content-sha256",
)


def signed_again(request: Request, endpoint_url: str) -> Request:
    """The same request, signed with the servers' credentials for the server at that URL."""
    kept = {name: value for name, value in request.headers.items() if name not in _OF_A_SIGNATURE}
    kept["host"] = urlsplit(endpoint_url).netloc
    signed_headers = {name: value for name, value in kept.items() if name.startswith("x-amz-")}
    unsigned = AWSRequest(
        method=request.method,
        url=endpoint_url + request.target,
        data=request.body,
        headers=signed_headers,
    )
    credentials = Credentials(
        CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    )
    S3SigV4Auth(credentials, "s3", CREDENTIALS["AWS_DEFAULT_REGION"]).add_auth(unsigned)
    added = {name.lower(): value for name, value in unsigned.headers.items()}
    return Request(request.method, request.target, kept | added, request.body)


def make_bucket(endpoint_url: str, name: str) -> None:
    """Create a bucket on a server that checks signatures. Raises `OSError`."""
    request = signed_again(Request("PUT", f"/{name}", {}, b""), endpoint_url)
    url = endpoint_url + request.target
    try:
        with urlopen(UrlRequest(url, method="PUT", headers=request.headers), timeout=30):
            pass
    except HTTPError as error:
        error.close()  # it holds the connection
        raise
