"""The SHA-256 of a large body that goes into its signature, made in a thread.

Over plain HTTP the signature covers the body. botocore would hash it on the event loop: 1 to 5 ms
for each MiB in which nothing is received and nothing acknowledged. It has no way to be told the
digest, so its signer is replaced, for the whole process, by one that asks the body first; with any
other body that does what it always did.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

from hf_agent.store.s3_body import UploadBody

__all__ = ["hash_for_signature"]

_INLINE_BYTES = 256 * 1024
"""Less is hashed faster than a thread would begin to."""


async def hash_for_signature(body: bytes | UploadBody) -> None:
    """Let a body know its digest, if hashing it takes long; for bodies that will be signed."""
    if isinstance(body, UploadBody) and len(body) > _INLINE_BYTES:
        body.sha256 = await asyncio.to_thread(_sha256, body)


def _sha256(body: UploadBody) -> str:
    digest = hashlib.sha256()
    for view in body.views:
        digest.update(view)
    return digest.hexdigest()


class _Signer(S3SigV4Auth):  # type: ignore[misc]  # botocore has no types
    def payload(self, request: Any) -> str:
        known = getattr(request.body, "sha256", "")
        return known or super().payload(request)


AUTH_TYPE_MAPS["s3v4"] = _Signer
