"""A refused conditional write is first taken for one that landed and whose answer was lost."""

from __future__ import annotations

from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import Body, Store, StoreNotFound, StoreRetry

__all__ = ["has_bytes", "object_is_ours"]

_COMPARED_BYTES = 4 << 20


async def object_is_ours(store: Store, key: str, body: Body, mark: str) -> bool:
    """Whether the object at `key` is there because of our own write of `body`.

    A store that keeps user metadata tells by the write's mark, any other by the bytes.
    Raises `StoreRetry` when the object is not there, and the store's errors.
    """
    try:
        if store.supports_metadata:
            return (await store.head(key)).metadata.get(WRITE_MARK) == mark
        return await has_bytes(store, key, body)
    except StoreNotFound as error:
        # S3 also refuses while somebody else's write of the key is in progress.
        raise StoreRetry(f"another write of the object is in progress key={key}") from error


async def has_bytes(store: Store, key: str, body: Body) -> bool:
    """Whether the object at `key` holds just these bytes. Raises the store's errors."""
    pieces = [body] if isinstance(body, bytes | bytearray | memoryview) else body
    views = [memoryview(piece).cast("B") for piece in pieces]
    if (await store.head(key)).size != sum(map(len, views)):
        return False
    at, answer = 0, memoryview(b"")
    for view in views:
        while view:
            if not answer:
                answer = memoryview((await store.get(key, start=at, end=at + _COMPARED_BYTES)).data)
                at += len(answer)
            length = min(len(view), len(answer))
            if length == 0 or view[:length] != answer[:length]:
                return False
            view, answer = view[length:], answer[length:]
    return True
