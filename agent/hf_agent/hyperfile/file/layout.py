"""Layout of a checkpoint: how many blocks go into which object, and where in it.

segment (formats 1-3)   summary · map nodes · data blocks · trailer
stream (format 4)       data blocks · map nodes · entries · header
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hf_agent.hyperfile.errors import CheckpointTooLarge
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat, align
from hf_agent.hyperfile.pointers import MAX_OBJECT_BYTES, MAX_PART
from hf_agent.hyperfile.segment import ENTRY, summary_bytes
from hf_agent.hyperfile.stream_object import STREAM_HEADER_BYTES
from hf_agent.hyperfile.trailer import trailer_bytes

__all__ = ["ObjectLayout", "fits_one_object", "lay_out", "max_data_blocks"]


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """One object. Offsets and sizes in bytes."""

    meta: MetaConfig
    meta_blocks: int
    data_blocks: int

    @property
    def stream(self) -> bool:
        """Whether the header stands at the end."""
        return self.meta.pointer_format is PointerFormat.STREAM

    @property
    def meta_offset(self) -> int:
        """Where the first map node begins."""
        if self.stream:
            return self.data_blocks << self.meta.data_shift
        return align(summary_bytes(self.data_blocks))

    @property
    def data_offset(self) -> int:
        """Where the first data block begins."""
        if self.stream:
            return 0
        return self.meta_offset + (self.meta_blocks << self.meta.meta_shift)

    @property
    def size(self) -> int:
        """Of the whole object."""
        if self.stream:
            meta_end = self.meta_offset + (self.meta_blocks << self.meta.meta_shift)
            return meta_end + ENTRY.size * self.data_blocks + STREAM_HEADER_BYTES
        data_end = self.data_offset + (self.data_blocks << self.meta.data_shift)
        return data_end + trailer_bytes(self.meta_blocks, self.data_blocks)


def max_object_bytes(meta: MetaConfig) -> int:
    """The longest object whose every byte a pointer can name."""
    return 1 << 32 if meta.pointer_format is PointerFormat.FLAT else MAX_OBJECT_BYTES


def fits_one_object(meta: MetaConfig) -> bool:
    """Whether blocks of these sizes fit an object at all: two map nodes, and a data block."""
    limit = max_object_bytes(meta)
    return ObjectLayout(meta, 2, 0).size <= limit and ObjectLayout(meta, 0, 1).size <= limit


def max_data_blocks(meta: MetaConfig, meta_blocks: int, limit: int) -> int:
    """The most data blocks that an object of up to `limit` bytes holds beside its map nodes."""
    low, high = 0, limit >> meta.data_shift
    while low < high:
        middle = (low + high + 1) // 2
        if ObjectLayout(meta, meta_blocks, middle).size <= limit:
            low = middle
        else:
            high = middle - 1
    return low


def lay_out(
    meta: MetaConfig, *, meta_blocks: int, data_blocks: int, part_bytes: int
) -> list[ObjectLayout]:
    """The objects of a checkpoint, the one that is the checkpoint itself first.

    That one holds all map nodes and the first of the data blocks, the others hold the rest in
    order. Raises `CheckpointTooLarge`.
    """
    first = data_blocks
    if meta.pointer_format.parted:
        first = min(max_data_blocks(meta, meta_blocks, part_bytes), data_blocks)
    objects = [ObjectLayout(meta, meta_blocks, first)]
    objects += _parts(meta, data_blocks - first, part_bytes)
    if objects[0].size > max_object_bytes(meta):
        raise CheckpointTooLarge(
            "the changes do not fit one checkpoint; flush more often "
            f"map_nodes={meta_blocks} data_blocks={data_blocks} bytes={objects[0].size}"
        )
    if len(objects) - 1 > MAX_PART:
        raise CheckpointTooLarge(
            f"a checkpoint has at most {MAX_PART} parts; flush more often, or let parts be "
            f"larger data_blocks={data_blocks} part_bytes={part_bytes}"
        )
    return objects


def _parts(meta: MetaConfig, data_blocks: int, part_bytes: int) -> Iterator[ObjectLayout]:
    per_part = max(max_data_blocks(meta, 0, part_bytes), 1)
    for start in range(0, data_blocks, per_part):
        yield ObjectLayout(meta, 0, min(per_part, data_blocks - start))
