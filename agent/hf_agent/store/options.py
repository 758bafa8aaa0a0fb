"""What an S3 store can be told. Importing this does not load any S3 library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["S3Options"]

_MIB = 1 << 20
_MIN_PART_BYTES = 5 * _MIB  # S3 refuses smaller parts, but for the last one


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
    pool_size: int = 32
    """Most requests, and connections, at one time."""
    connect_timeout: float = 10.0
    """Seconds to reach the server."""
    read_timeout: float = 30.0
    """Seconds without a byte coming or going before a request is given up."""
    multipart_threshold: int = 16 * _MIB
    """Objects of more bytes than this are uploaded in parts."""
    part_bytes: int = 8 * _MIB
    """Size of a part in bytes; larger where an object would need more than 10,000 of them."""
    part_concurrency: int = 4
    """Parts of one object that are uploaded at one time."""

    def __post_init__(self) -> None:
        if self.addressing not in ("auto", "path", "virtual"):
            raise ValueError(f"addressing is auto, path or virtual addressing={self.addressing!r}")
        if self.part_bytes < _MIN_PART_BYTES:
            raise ValueError(f"parts have at least 5 MiB part_bytes={self.part_bytes}")
        for name in ("pool_size", "connect_timeout", "read_timeout", "part_concurrency"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above zero {name}={getattr(self, name)}")
