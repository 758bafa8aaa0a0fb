"""What `[store.s3]` must be: which values go together, and which a bucket of its kind takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from hf_agent.config.location import KeyPath
from hf_agent.config.model import S3

__all__ = ["S3_RANGES", "check_endpoint", "check_proxy", "s3_rules"]

_MIB = 1 << 20
_TABLE: KeyPath = ("store", "s3")
_DIRECTORY_BUCKET = "--x-s3"
"""How the names of directory buckets end."""
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam::\d{12}:role/\S+")

S3_RANGES: dict[str, tuple[float, float]] = {
    "connect_timeout": (0.1, 300),
    "read_timeout": (0.1, 3600),
    "request_timeout": (1, 86_400),
    # S3 takes no larger object at once, and no smaller part.
    "multipart_threshold": (5 * _MIB, 5 << 30),
    "part_bytes": (5 * _MIB, 5 << 30),
    "part_concurrency": (1, 64),
}

Require = Callable[..., None]
"""Whether a rule holds, what to say if not, the key it is about, and the keys it rests on."""


def s3_rules(s3: S3, url: str, require: Require) -> None:
    """Say by `require` which rules hold, for a store at `url`."""
    _together(s3, require)
    scheme, _, place = url.partition("://")
    bucket = place.partition("/")[0]
    if scheme != "s3":
        return  # commands that read from S3 may take their options from here
    if bucket.endswith(_DIRECTORY_BUCKET):
        _directory_bucket(s3, require)
    else:
        require(
            s3.storage_class != "EXPRESS_ONEZONE",
            f"is for directory buckets only, whose names end in {_DIRECTORY_BUCKET}",
            (*_TABLE, "storage_class"),
            ("store", "url"),
        )


def _together(s3: S3, require: Require) -> None:
    require(
        not s3.role_arn or _ROLE.fullmatch(s3.role_arn) is not None,
        "not the ARN of a role: write arn:aws:iam::ACCOUNT:role/NAME",
        (*_TABLE, "role_arn"),
    )
    require(
        not s3.external_id or bool(s3.role_arn),
        "goes with a role: set store.s3.role_arn, or remove this key",
        (*_TABLE, "external_id"),
    )
    for name in ("sse_kms_key_id", "sse_bucket_key"):
        require(
            not getattr(s3, name) or s3.sse == "aws:kms",
            'goes with store.s3.sse = "aws:kms" only: set that, or remove this key',
            (*_TABLE, name),
            (*_TABLE, "sse"),
        )
    require(
        s3.read_timeout <= s3.request_timeout,
        f"must not be above store.s3.request_timeout ({s3.request_timeout:g}s)",
        (*_TABLE, "read_timeout"),
        (*_TABLE, "request_timeout"),
    )
    require(
        s3.connect_timeout <= s3.request_timeout,
        f"must not be above store.s3.request_timeout ({s3.request_timeout:g}s)",
        (*_TABLE, "connect_timeout"),
        (*_TABLE, "request_timeout"),
    )
    require(
        not s3.ca_bundle or not s3.endpoint_url.startswith("http:"),
        "has no effect: store.s3.endpoint_url begins with http://, where nothing is certified",
        (*_TABLE, "ca_bundle"),
        (*_TABLE, "endpoint_url"),
    )


def _directory_bucket(s3: S3, require: Require) -> None:
    url: KeyPath = ("store", "url")
    require(
        not s3.sse,
        "is not for directory buckets: set the default encryption of the bucket instead",
        (*_TABLE, "sse"),
        url,
    )
    require(
        s3.storage_class in ("", "EXPRESS_ONEZONE"),
        "is not for directory buckets, which have EXPRESS_ONEZONE only: remove this key",
        (*_TABLE, "storage_class"),
        url,
    )
    require(
        s3.addressing != "path" or bool(s3.endpoint_url),
        'cannot be "path" for directory buckets, which have a host name each',
        (*_TABLE, "addressing"),
        url,
    )


def check_endpoint(url: str) -> None:
    """Raise `ValueError` where this is no URL of a server."""
    if url and not _is_http(url):
        raise ValueError("not an endpoint: write http://host:port or https://host, or nothing")


def check_proxy(url: str) -> None:
    """Raise `ValueError` where this is no URL of a proxy."""
    if url and not _is_http(url):
        raise ValueError("not a proxy: write http://host:port, or nothing")


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
