"""Reads the trailer of a checkpoint object, where there is one."""

from __future__ import annotations

from hf_agent.hyperfile.errors import MissingObject
from hf_agent.hyperfile.segment import ObjectHeader
from hf_agent.hyperfile.trailer import Trailer, decode_trailer, trailer_bytes
from hf_agent.store.base import ObjectData, Store, StoreConflict, StoreNotFound

__all__ = ["read_trailer"]


async def read_trailer(
    store: Store,
    object_key: str,
    header: ObjectHeader,
    object_size: int,
    *,
    known: ObjectData | None = None,
    refuse_later: bool = False,
) -> Trailer | None:
    """The trailer behind the data of an object with this header; None when it has none.

    `known` is a part of the object that has been read already: no request is made when the
    trailer is in it. Raises `ChecksumError` for a damaged one, `FormatError`, and the store's
    errors.
    """
    start = header.data_end
    length = trailer_bytes(header.meta_blocks, header.data_blocks)
    # A stream object ends with its header, and others' bytes have another length.
    if header.part is not None or (object_size - start != length and not header.has_checksum):
        return None
    data = b""
    if object_size - start == length:
        data = await _read(store, object_key, start, object_size, known)
    return decode_trailer(
        data,
        source=object_key,
        offset=start,
        checkpoint=header.checkpoint,
        meta_blocks=header.meta_blocks,
        data_blocks=header.data_blocks,
        declared=header.has_checksum,
        refuse_later=refuse_later,
    )


async def _read(store: Store, key: str, start: int, end: int, known: ObjectData | None) -> bytes:
    if known is not None and known.offset <= start and end <= known.offset + len(known.data):
        return known.data[start - known.offset : end - known.offset]
    etag = known.info.etag if known is not None else ""
    try:
        return (await store.get(key, start=start, end=end, if_match=etag or None)).data
    except (StoreConflict, StoreNotFound) as error:
        rule = "an object has gone while it was read"
        raise MissingObject(rule, object=key, offset=start) from error
