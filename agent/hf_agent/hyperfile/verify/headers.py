"""Reads the header of every object of an inventory."""

from __future__ import annotations

from hf_agent.hyperfile.concurrency import for_each
from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.inode import FLAG_COMPACTION, with_flags
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.segment import (
    SEGMENT_HEADER_BYTES,
    ObjectHeader,
    decode_segment_header,
)
from hf_agent.hyperfile.stream_object import (
    STREAM_HEADER_BYTES,
    decode_stream_header,
    is_stream_header,
)
from hf_agent.hyperfile.trailer import TRAILER_TAIL_BYTES, ends_like_a_trailer
from hf_agent.hyperfile.verify.inventory import Inventory
from hf_agent.hyperfile.verify.report import Kind, Problem
from hf_agent.store.base import Store, StoreNotFound

__all__ = ["read_headers"]

_IN_FLIGHT = 16


async def read_headers(store: Store, inventory: Inventory) -> dict[int, tuple[Problem, bool]]:
    """Fill in the headers. Returns the problem of each object that has no good one, and whether
    it surely was a checkpoint object once (else it may be anybody's). Raises the store's errors.
    """
    bad: dict[int, tuple[Problem, bool]] = {}

    async def read(at: int) -> None:
        try:
            header = await _read_header(store, inventory, at)
        except FormatError as error:
            text = error.problem if isinstance(error, ChecksumError) else error.rule
            problem = Problem(at, Kind.OBJECT, 0, inventory.name(at), error.offset, "header", text)
            bad[at] = problem, await _was_checkpoint(store, inventory, at, error)
        except StoreNotFound:
            text = "the object has gone while the container was verified"
            bad[at] = Problem(at, Kind.OBJECT, 0, inventory.name(at), 0, "object", text), False
        else:
            plain = with_flags(header.inode, clear=FLAG_COMPACTION)
            flagged = with_flags(header.inode, set=FLAG_COMPACTION)
            names = fingerprint(plain), fingerprint(flagged)
            inventory.set_header(at, header, names)

    await for_each(read, range(len(inventory)), limit=_IN_FLIGHT)
    return bad


async def _read_header(store: Store, inventory: Inventory, at: int) -> ObjectHeader:
    name, number = inventory.name(at), inventory.number(at)
    if inventory.meta.pointer_format is PointerFormat.STREAM:
        answer = await store.get(name, suffix=STREAM_HEADER_BYTES)
        header = decode_stream_header(
            answer.data,
            source=name,
            object_size=answer.info.size,
            checkpoint=number,
            part=inventory.part(at),
        )
    else:
        answer = await store.get(name, start=0, end=SEGMENT_HEADER_BYTES)
        header = decode_segment_header(answer.data, source=name, object_size=answer.info.size)
    if answer.info.size != inventory.sizes[at]:
        rule = f"an object was listed with {inventory.sizes[at]} bytes, it has {answer.info.size}"
        raise FormatError(rule, object=name, offset=0)
    if header.checkpoint != number:
        rule = f"a header names another checkpoint, {header.checkpoint}"
        raise FormatError(rule, object=name, offset=192)
    meta = inventory.meta
    if (header.meta_shift, header.data_shift) != (meta.meta_shift, meta.data_shift):
        raise FormatError("a header names other block sizes than the inode", object=name, offset=14)
    return header


async def _was_checkpoint(store: Store, inventory: Inventory, at: int, error: FormatError) -> bool:
    if isinstance(error, ChecksumError):
        return True
    name = inventory.name(at)
    try:
        if inventory.meta.pointer_format is PointerFormat.STREAM:
            return is_stream_header((await store.get(name, suffix=STREAM_HEADER_BYTES)).data)
        tail = (await store.get(name, suffix=TRAILER_TAIL_BYTES)).data
    except StoreNotFound:
        return False
    return ends_like_a_trailer(tail, inventory.number(at))
