"""Objects of a checkpoint as bytes: everything around the data blocks, which are not copied."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from crc32c import crc32c

from hf_agent.hyperfile.file.layout import ObjectLayout
from hf_agent.hyperfile.file.map_changes import NEW_BLOCK, NewInner, NewLeaf, NewNode
from hf_agent.hyperfile.meta_config import PointerFormat
from hf_agent.hyperfile.nodes import node_capacity
from hf_agent.hyperfile.pointers import Place, encode_place
from hf_agent.hyperfile.segment import (
    FLAG_PARTIAL,
    SEGMENT_HEADER_BYTES,
    encode_segment_header,
    summary_bytes,
)
from hf_agent.hyperfile.stream_object import encode_stream_header
from hf_agent.hyperfile.trailer import Trailer, encode_trailer

__all__ = [
    "Block",
    "ObjectIdentity",
    "child_pointers",
    "encode_nodes",
    "encode_object",
    "leaf_values",
    "little_endian",
    "new_pointers",
]

Block = bytes | bytearray | memoryview
"""A data block's bytes, exactly one block long."""

_NODE_HEAD = struct.Struct("<BBHI")
_LEAF = 0x2


@dataclass(frozen=True, slots=True)
class ObjectIdentity:
    """What an object says of itself and its checkpoint."""

    checkpoint: int
    part: int
    base: int
    """Fingerprint of the stored inode that the checkpoint is built on."""
    inode: bytes
    writer_id: bytes


def little_endian(values: array[int]) -> bytes:
    """The values as they stand on the store."""
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def new_pointers(layout: ObjectLayout, checkpoint: int, part: int) -> array[int]:
    """Pointers of an object's data blocks, in order."""
    meta, count = layout.meta, layout.data_blocks
    if count == 0:
        return array("Q")
    first = Place(checkpoint, part, layout.data_offset)
    size = meta.data_block_size
    last = encode_place(
        first._replace(offset=first.offset + (count - 1) * size), meta.pointer_format
    )
    start = encode_place(first, meta.pointer_format)
    step = (last - start) // (count - 1) if count > 1 else 1
    pointers = array("Q", range(start, start + count * step, step))
    if meta.pointer_format is PointerFormat.MICRO_GROUP:
        # The low bits hold the block's number in the object, map nodes first, without its last 4.
        numbers = range(layout.meta_blocks, layout.meta_blocks + count)
        pointers = array("Q", (p | n >> 4 for p, n in zip(pointers, numbers, strict=True)))
    return pointers


def leaf_values(leaf: NewLeaf, places: array[int]) -> array[int]:
    """A new leaf's values with the pointers of new blocks, `places`, put in by their ranks."""
    values = leaf.values
    if not values:
        return values
    first, last = values[0], values[-1]
    if first >= NEW_BLOCK and last - first == len(values) - 1:
        return places[first - NEW_BLOCK : last - NEW_BLOCK + 1]
    return array("Q", (places[v - NEW_BLOCK] if v >= NEW_BLOCK else v for v in values))


def child_pointers(node: NewInner) -> array[int]:
    """Where the children of a new inner node lie."""
    return array(
        "Q", (child if isinstance(child, int) else child.pointer for child in node.children)
    )


def encode_nodes(nodes: Sequence[NewNode], places: array[int], meta_block_size: int) -> bytes:
    """Map nodes one behind the other; all of them have their pointers."""
    capacity = node_capacity(meta_block_size)
    data = bytearray(len(nodes) * meta_block_size)
    for number, node in enumerate(nodes):
        at = number * meta_block_size
        if isinstance(node, NewLeaf):
            flags, values = _LEAF, leaf_values(node, places)
        else:
            flags, values = 0, child_pointers(node)
        _NODE_HEAD.pack_into(data, at, flags, node.level, len(node.keys), 0)
        keys_at = at + _NODE_HEAD.size
        values_at = keys_at + 8 * capacity
        data[keys_at : keys_at + 8 * len(node.keys)] = little_endian(node.keys)
        data[values_at : values_at + 8 * len(values)] = little_endian(values)
    return bytes(data)


def encode_object(
    layout: ObjectLayout,
    identity: ObjectIdentity,
    *,
    nodes: bytes,
    indexes: array[int],
    pointers: array[int],
    blocks: Sequence[Block],
) -> list[Block]:
    """A whole object, in pieces: its blocks as they are, and what stands around them.

    `indexes` and `pointers` are those of the blocks, ascending; part 0 (and what has no parts) is
    the checkpoint itself.
    """
    entries = array("Q", bytes(16 * len(indexes)))
    entries[0::2], entries[1::2] = indexes, pointers
    encoded_entries = little_endian(entries)
    meta = layout.meta
    flags = FLAG_PARTIAL if identity.part else 0
    if layout.stream:
        header = encode_stream_header(
            checkpoint=identity.checkpoint,
            part=identity.part,
            flags=flags,
            meta_shift=meta.meta_shift,
            data_shift=meta.data_shift,
            meta_blocks=layout.meta_blocks,
            data_blocks=layout.data_blocks,
            base=identity.base,
            inode=identity.inode,
        )
        return [*blocks, b"".join((nodes, encoded_entries, header))]
    header = encode_segment_header(
        checkpoint=identity.checkpoint,
        flags=flags,
        meta_shift=meta.meta_shift,
        data_shift=meta.data_shift,
        meta_blocks=layout.meta_blocks,
        data_blocks=layout.data_blocks,
        base=identity.base,
        inode=identity.inode,
    )
    head = bytearray(layout.data_offset)
    head[:SEGMENT_HEADER_BYTES] = header
    head[SEGMENT_HEADER_BYTES : summary_bytes(layout.data_blocks)] = encoded_entries
    head[layout.meta_offset :] = nodes
    view, size = memoryview(head), meta.meta_block_size
    node_starts = range(layout.meta_offset, layout.data_offset, size)
    trailer = Trailer(
        writer_id=identity.writer_id,
        position=0,
        checkpoint=identity.checkpoint,
        summary_crc=crc32c(view[: layout.meta_offset]),
        meta_crcs=array("I", (crc32c(view[at : at + size]) for at in node_starts)),
        data_crcs=array("I", map(crc32c, blocks)),
    )
    return [head, *blocks, encode_trailer(trailer)]
