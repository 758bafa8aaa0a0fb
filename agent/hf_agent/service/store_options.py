"""The table `[store.s3]` as the S3 store takes it."""

from __future__ import annotations

import os

from hf_agent.config import S3, Flush
from hf_agent.store.options import S3Options, pool_size_for

__all__ = ["s3_options"]


def s3_options(s3: S3, flush: Flush) -> S3Options:
    """Options of a store to which so many flushes write at a time as `flush` says."""
    given = {name: getattr(s3, name) for name in s3.__struct_fields__}
    if s3.ca_bundle:
        given["ca_bundle"] = os.path.abspath(s3.ca_bundle)  # noqa: PTH100 - resolve() asks the disk
    return S3Options(pool_size=pool_size_for(flush.concurrency, s3.part_concurrency), **given)
