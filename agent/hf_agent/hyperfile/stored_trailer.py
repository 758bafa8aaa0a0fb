"""Reads the trailer of a checkpoint object, where there is one."""

from __future__ import annotations

from hf_agent.hyperfile.errors import FormatError
from hf_agent.hyperfile.segment import ObjectHeader
from hf_agent.hyperfile.trailer import Trailer, decode_trailer, trailer_bytes
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["read_trailer"]


async def read_trailer(
    store: Store, object_key: str, header: ObjectHeader, object_size: int
) -> Trailer | None:
    """The trailer behind the data of an object with this header; None when it has none.

    Raises `FormatError` for a damaged one, and the store's errors.
    """
    start = header.data_end
    length = trailer_bytes(header.meta_blocks, header.data_blocks)
    # A stream object ends with its header, and others' bytes have another length.
    if header.part is not None or object_size - start != length:
        return None
    try:
        answer = await store.get(object_key, start=start, end=object_size)
    except StoreNotFound as error:
        rule = "an object has gone while it was read"
        raise FormatError(rule, object=object_key, offset=start) from error
    return decode_trailer(
        answer.data,
        source=object_key,
        offset=start,
        checkpoint=header.checkpoint,
        meta_blocks=header.meta_blocks,
        data_blocks=header.data_blocks,
    )
