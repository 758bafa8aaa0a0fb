"""Which right of S3 is missing when a request is denied: its answer does not say."""

from __future__ import annotations

import re
from enum import Enum

from hf_agent.store.base import StoreError, StoreRefused
from hf_agent.store.observer import coded

__all__ = ["DENIED", "Right", "named"]

DENIED = ("AccessDenied", "403")
"""Codes of a request that is denied."""

_PAIRS = re.compile(r"\s[a-z_]+=\S.*$", re.DOTALL)
_ELSE = "else S3 answers 403 for an object that is absent"


class Right(Enum):
    """What is done, and what has to be allowed for it."""

    LIST = ("listing", f"s3:ListBucket on the bucket ({_ELSE})")
    READ_ABSENT = (
        "reading",
        f"s3:GetObject, and s3:ListBucket with no condition on s3:prefix ({_ELSE})",
    )
    READ = ("reading", "s3:GetObject (and kms:Decrypt for the key of the bucket, if it has one)")
    WRITE = (
        "writing",
        "s3:PutObject (and kms:GenerateDataKey for the key of the bucket, if it has one)",
    )
    DELETE = ("deleting", "s3:DeleteObject at least for the keys of the preflight")


def named(right: Right, denial: StoreError) -> StoreError:
    """A refusal that names what has to be allowed, in the place of `denial`."""
    doing, what = right.value
    pairs = found[0] if (found := _PAIRS.search(str(denial))) else ""
    message = f"{doing} is denied: allow {what}; for a directory bucket, s3express:CreateSession"
    return coded(StoreRefused(message + pairs), denial.code)
