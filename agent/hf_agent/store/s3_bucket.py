"""What depends on the kind of a bucket, which its name tells: general purpose, or directory.

Directory buckets (S3 Express One Zone) list in no order and by whole folders only, have one storage
class, and encrypt by their own default. Sessions and endpoints are botocore's affair.
"""

from __future__ import annotations

from typing import Any

from hf_agent.store.options import MUTABLE_SUFFIX, S3Options

__all__ = ["is_directory_bucket", "listing_prefix", "write_params"]

_DIRECTORY_SUFFIX = "--x-s3"


def is_directory_bucket(bucket: str) -> bool:
    """Whether a bucket of this name is a directory bucket."""
    return bucket.endswith(_DIRECTORY_SUFFIX)


def listing_prefix(bucket: str, prefix: str) -> str:
    """The prefix to ask for; what is listed may start with less than `prefix`."""
    if not is_directory_bucket(bucket):
        return prefix
    return prefix[: prefix.rfind("/") + 1]


def write_params(bucket: str, key: str, options: S3Options) -> dict[str, Any]:
    """Parameters of the request that begins to write `key`, beside condition and metadata."""
    if is_directory_bucket(bucket):
        return {}
    params: dict[str, Any] = {}
    if options.sse:
        params["ServerSideEncryption"] = options.sse
    if options.sse_kms_key_id:
        params["SSEKMSKeyId"] = options.sse_kms_key_id
    if options.sse_bucket_key:
        params["BucketKeyEnabled"] = True
    if options.storage_class and not f"/{key}".endswith(MUTABLE_SUFFIX):
        params["StorageClass"] = options.storage_class
    return params
