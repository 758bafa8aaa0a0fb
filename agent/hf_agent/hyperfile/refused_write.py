"""A refused conditional write is first taken for one that landed and whose answer was lost."""

from __future__ import annotations

from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import Store, StoreNotFound, StoreRetry

__all__ = ["object_is_ours"]

_COMPARED_BYTES = 4 << 20


async def object_is_ours(store: Store, key: str, body: memoryview, mark: str) -> bool:
    """Whether the object at `key` is there because of our own write of `body`.

    A store that keeps user metadata tells by the write's mark, any other by the bytes.
    Raises `StoreRetry` when the object is not there, and the store's errors.
    """
    try:
        info = await store.head(key)
        if store.supports_metadata:
            return info.metadata.get(WRITE_MARK) == mark
        if info.size != len(body):
            return False
        for start in range(0, len(body), _COMPARED_BYTES):
            expected = body[start : start + _COMPARED_BYTES]
            answer = await store.get(key, start=start, end=start + len(expected))
            if answer.data != expected:
                return False
    except StoreNotFound as error:
        # S3 also refuses while somebody else's write of the key is in progress.
        raise StoreRetry(f"another write of the object is in progress key={key}") from error
    return True
