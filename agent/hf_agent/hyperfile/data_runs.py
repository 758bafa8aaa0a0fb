"""A read of many blocks as few requests: neighbours in the file that are so in an object, too."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat
from hf_agent.hyperfile.objects import CheckpointObjects
from hf_agent.hyperfile.pointers import Place, decode_place, is_place

__all__ = ["DataRun", "data_runs", "read_blocks"]

_MICRO_GROUP_BITS = 0x3FFF
"""Of a pointer of format 2: the number of a group of blocks in the object, not a place."""


class DataRun(NamedTuple):
    """A part of a read: from one object, or (`place` None) zeros."""

    place: Place | None
    """Of the first block."""
    skip: int
    """Bytes of the first block to leave out."""
    length: int


def data_runs(
    pointers: array[int], meta: MetaConfig, *, skip: int, length: int, max_bytes: int
) -> Iterator[DataRun]:
    """The `length` bytes of the blocks at `pointers`, one behind the other, without the first
    `skip` bytes; each run covers blocks of up to `max_bytes`, at least one."""
    size, count = meta.data_block_size, len(pointers)
    per_run = max(max_bytes // size, 1)
    keep = ~_MICRO_GROUP_BITS if meta.pointer_format is PointerFormat.MICRO_GROUP else -1
    step = size if meta.pointer_format is PointerFormat.FLAT else size // 4096 << 14
    at = 0
    while at < count:
        first = pointers[at]
        end, limit = at + 1, min(at + per_run, count)
        place = None
        if is_place(first):
            place = decode_place(first, meta.pointer_format)
            expected = (first & keep) + step
            while end < limit and pointers[end] & keep == expected:
                end += 1
                expected += step
        else:
            while end < limit and not is_place(pointers[end]):
                end += 1
        taken = min((end - at) * size - skip, length)
        yield DataRun(place, skip, taken)
        length -= taken
        at, skip = end, 0


async def read_blocks(
    objects: CheckpointObjects,
    pointers: array[int],
    meta: MetaConfig,
    *,
    skip: int,
    length: int,
    max_bytes: int,
    requests: int,
) -> bytes:
    """The bytes of `data_runs`, up to `requests` of them read at a time.

    Raises `ChecksumError`, `FormatError`, and the store's errors.
    """

    async def read(run: DataRun) -> bytes:
        if run.place is None:
            return bytes(run.length)
        return await objects.read_data(run.place, run.skip, run.length)

    runs = list(data_runs(pointers, meta, skip=skip, length=length, max_bytes=max_bytes))
    if len(runs) == 1:
        return await read(runs[0])
    return b"".join(await map_concurrently(read, runs, limit=requests))
