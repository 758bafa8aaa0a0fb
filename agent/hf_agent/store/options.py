"""What an S3 store can be told. Importing this does not load any S3 library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

__all__ = ["MUTABLE_SUFFIX", "Checksum", "S3Options", "pool_size_for"]

_MIB = 1 << 20
_MIN_PART_BYTES = 5 * _MIB  # S3 refuses smaller parts, but for the last one
_MIN_POOL, _MAX_POOL = 32, 256

MUTABLE_SUFFIX = "/inode"
"""How the keys of objects end that are replaced again and again: they get no storage class, since
the colder ones charge each version for a month or more, and a least size far above theirs."""

Checksum: TypeAlias = Literal["none", "crc32", "crc32c", "sha256"]
"""Of a request's body, for the server to check it by."""


@dataclass(frozen=True, slots=True)
class S3Options:
    """How to reach the bucket. Empty strings mean: whatever botocore finds by itself."""

    region: str = ""
    endpoint_url: str = ""
    """Of an S3-compatible server; empty for AWS."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Whether the bucket's name stands in the path or in the host name."""
    profile: str = ""
    """Of the shared AWS configuration; credentials come from botocore's default chain."""
    access_key_id: str = ""
    """With the next two: credentials of a program's own, instead of the chain's."""
    secret_access_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    anonymous: bool = False
    """Whether requests go out unsigned, for buckets that anybody may read; looks for no
    credentials."""
    role_arn: str = ""
    """A role to assume with those credentials, for as long as the store is used."""
    external_id: str = ""
    """What the role's trust policy may ask for."""
    sse: Literal["", "AES256", "aws:kms"] = ""
    """Encryption of what is written; empty: the bucket's default. Never sent to directory buckets,
    which take their default only."""
    sse_kms_key_id: str = ""
    """Key for `aws:kms`; empty: the account's own for S3."""
    sse_bucket_key: bool = False
    """Whether `aws:kms` goes by a key of the bucket, which saves requests to the key service."""
    storage_class: str = ""
    """Of new objects, but for keys that end in `MUTABLE_SUFFIX`; empty: the server's default. Never
    sent to directory buckets, which have one only."""
    checksum: Checksum = "none"
    """Sent with every body, and computed once for it."""
    ca_bundle: str = ""
    """PEM file of the authorities to trust instead of the usual ones."""
    proxy: str = ""
    """URL of an HTTP proxy for all requests."""
    pool_size: int = _MIN_POOL
    """Most requests, and connections, at one time."""
    connect_timeout: float = 10.0
    """Seconds to reach the server."""
    read_timeout: float = 30.0
    """Seconds without a byte coming or going before a request is given up."""
    request_timeout: float = 300.0
    """Seconds for one request as a whole, looking for credentials included."""
    multipart_threshold: int = 16 * _MIB
    """Objects of more bytes than this are uploaded in parts."""
    part_bytes: int = 8 * _MIB
    """Size of a part in bytes; larger where an object would need more than 10,000 of them."""
    part_concurrency: int = 4
    """Parts of one object that are uploaded at one time."""

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(repr(choice) for choice in choices)
                raise ValueError(f"{name} is one of {listed} {name}={getattr(self, name)!r}")
        if self.part_bytes < _MIN_PART_BYTES:
            raise ValueError(f"parts have at least 5 MiB part_bytes={self.part_bytes}")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above zero {name}={getattr(self, name)}")
        for name, needed in _NEEDS.items():
            if getattr(self, name) and not getattr(self, needed):
                raise ValueError(f"{name} means nothing without {needed}")
        if self.access_key_id and (self.role_arn or self.profile):
            raise ValueError("credentials come from access_key_id, or from profile and role_arn")
        if self.anonymous and (self.access_key_id or self.profile or self.role_arn):
            raise ValueError(
                "anonymous requests have no credentials: give neither, or no anonymous"
            )
        if (self.sse_kms_key_id or self.sse_bucket_key) and self.sse != "aws:kms":
            raise ValueError(f"keys are for sse 'aws:kms' only sse={self.sse!r}")


_CHOICES = {
    "addressing": ("auto", "path", "virtual"),
    "sse": ("", "AES256", "aws:kms"),
    "checksum": ("none", "crc32", "crc32c", "sha256"),
}
_POSITIVE = (
    *("pool_size", "connect_timeout", "read_timeout", "request_timeout"),
    "part_concurrency",
)
_NEEDS = {
    "external_id": "role_arn",
    "access_key_id": "secret_access_key",
    "secret_access_key": "access_key_id",
    "session_token": "access_key_id",
}


def pool_size_for(flushes: int, parts: int) -> int:
    """A `pool_size` for so many flushes at a time, each uploading so many parts at a time.

    Never so small that reading headers side by side would wait, nor larger than 256.
    """
    return min(max(flushes * parts, _MIN_POOL), _MAX_POOL)
