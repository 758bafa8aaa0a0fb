"""Checksums of request bodies: computed once from the views, without joining them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import zlib
from collections.abc import Callable

from crc32c import crc32c

from hf_agent.store.buffers import Views, total_bytes
from hf_agent.store.options import Checksum

__all__ = ["algorithm_name", "checksum_params"]

_INLINE_BYTES = 256 * 1024
"""Less is summed faster than a thread would begin to."""


async def checksum_params(views: Views, algorithm: Checksum) -> dict[str, str]:
    """The checksum of a body as a parameter of its request; none with algorithm "none"."""
    if algorithm == "none":
        return {}
    compute = _ALGORITHMS[algorithm]
    if total_bytes(views) <= _INLINE_BYTES:
        digest = compute(views)
    else:
        digest = await asyncio.to_thread(compute, views)
    return {f"Checksum{algorithm.upper()}": base64.b64encode(digest).decode()}


def algorithm_name(algorithm: Checksum) -> dict[str, str]:
    """The parameter that announces the checksums of a multipart upload's parts."""
    return {} if algorithm == "none" else {"ChecksumAlgorithm": algorithm.upper()}


def _crc32(views: Views) -> bytes:
    value = 0
    for view in views:
        value = zlib.crc32(view, value)
    return value.to_bytes(4, "big")


def _crc32c(views: Views) -> bytes:
    value = 0
    for view in views:
        value = crc32c(view, value)
    return value.to_bytes(4, "big")


def _sha256(views: Views) -> bytes:
    digest = hashlib.sha256()
    for view in views:
        digest.update(view)
    return digest.digest()


_ALGORITHMS: dict[str, Callable[[Views], bytes]] = {
    "crc32": _crc32,
    "crc32c": _crc32c,
    "sha256": _sha256,
}
