"""A checkpoint in the making: one buffer, laid out before the data is there.

    summary (header, entries) · map nodes · data blocks · trailer

How many blocks and nodes an append of known length needs is known before its bytes are, so the
bytes are read straight into their place and the buffer is what goes to the store.
"""

from __future__ import annotations

import mmap
import threading
from array import array
from contextlib import suppress
from dataclasses import replace

from crc32c import crc32c

from hf_agent.hyperfile.block_map import BlockMap
from hf_agent.hyperfile.block_map_placement import place_dirty
from hf_agent.hyperfile.inode import FLAG_COMPACTION, FLAG_MOVED, Inode
from hf_agent.hyperfile.meta_config import MetaConfig, align
from hf_agent.hyperfile.nodes import node_capacity
from hf_agent.hyperfile.pointers import MAX_OBJECT_BYTES
from hf_agent.hyperfile.segment import (
    SEGMENT_HEADER_BYTES,
    encode_segment_header,
    summary_bytes,
)
from hf_agent.hyperfile.trailer import Trailer, encode_trailer, trailer_bytes

__all__ = ["CheckpointBuild", "max_append_bytes"]

_SECTOR = 512
"""Unit of an inode's `blocks`."""
_HUGE_PAGE = 2 << 20


def max_append_bytes(meta: MetaConfig) -> int:
    """Bytes that always fit one checkpoint object of 1 GiB, whatever the map looks like."""
    # Per block: an entry, a checksum, a share of a node and of its checksum.
    per_block = (
        meta.data_block_size
        + 20
        + (meta.meta_block_size + 4) // node_capacity(meta.meta_block_size)
    )
    fixed = 2 * 4096 + 32 * meta.meta_block_size
    blocks = (MAX_OBJECT_BYTES - fixed) // (per_block + 1) - 1
    return max(blocks, 0) * meta.data_block_size


def _zeroed_pages(size: int) -> mmap.mmap:
    """Anonymous memory: zero, and back with the system the moment that it is dropped."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_PAGE:
        # Faults of small pages take several times as long as reading into them does.
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


class CheckpointBuild:
    """One append: its changes to the map, and the object's buffer. Made by `Appender.begin`."""

    def __init__(self, block_map: BlockMap, base: Inode, tail: bytes, nbytes: int) -> None:
        """`block_map` has the changed blocks marked; `tail` is the content of the last, partial
        block of `base`. Raises `ValueError` when the object would be over 1 GiB."""
        meta = base.meta
        self._map = block_map
        self._base = base
        self._meta = meta
        self.nbytes = nbytes
        self.data_blocks = -(-(len(tail) + nbytes) // meta.data_block_size)
        self.meta_blocks = sum(map(len, block_map.dirty_levels()))
        self._meta_offset = align(summary_bytes(self.data_blocks))
        self._data_offset = self._meta_offset + self.meta_blocks * meta.meta_block_size
        self._data_end = self._data_offset + self.data_blocks * meta.data_block_size
        size = self._data_end + trailer_bytes(self.meta_blocks, self.data_blocks)
        if size > MAX_OBJECT_BYTES:
            raise ValueError(
                f"an append of {nbytes} bytes does not fit one checkpoint of 1 GiB; append less "
                f"at a time nbytes={nbytes} limit={max_append_bytes(meta)}"
            )
        self.object = memoryview(_zeroed_pages(size))
        """The whole object; valid once sealed."""
        body_offset = self._data_offset + len(tail)
        self.object[self._data_offset : body_offset] = tail
        self.body = self.object[body_offset : body_offset + nbytes]
        """Where the appended bytes go, before `Appender.commit`."""
        self.trailer: Trailer | None = None
        """Once sealed."""
        self._sealing = threading.Lock()
        self._data_crcs: array[int] | None = None
        self.number = 0
        """Checkpoint number; 0 before the build is sealed."""
        self.position = 0
        self.inode_bytes = b""
        """The inode that the container has with this checkpoint."""
        self._rightmost: tuple[int, ...] = ()

    @property
    def sealed(self) -> bool:
        """Whether `object` and `inode_bytes` are what will be written."""
        return self.number > 0

    @property
    def object_bytes(self) -> int:
        """Length of the object."""
        return len(self.object)

    def seal(self, *, number: int, base: int, now_ns: int, writer_id: bytes, position: int) -> None:
        """Fill in all that is not data. May be called again, with another number.

        Takes time in proportion to the object's size; may be called from any thread.
        """
        # A caller that was cancelled may come again while its first call still runs elsewhere.
        with self._sealing:
            self._seal(number, base, now_ns, writer_id, position)

    def _seal(self, number: int, base: int, now_ns: int, writer_id: bytes, position: int) -> None:
        meta, view = self._meta, self.object
        nodes = view[self._meta_offset : self._data_offset]
        entries = view[SEGMENT_HEADER_BYTES : summary_bytes(self.data_blocks)]
        placement = place_dirty(
            self._map,
            checkpoint=number,
            meta=meta,
            meta_offset=self._meta_offset,
            data_offset=self._data_offset,
            entries=entries,
            nodes=nodes,
        )
        inode = replace(
            self._base,
            root=placement.root,
            size=self._base.size + self.nbytes,
            blocks=self._base.blocks + self._map.added * (meta.data_block_size // _SECTOR),
            last_seq=number,
            last_cno=number,
            ctime_ns=now_ns,
            mtime_ns=now_ns,
            # An attached compaction is dropped; and this checkpoint does more than move blocks.
            flags=self._base.flags & ~(FLAG_COMPACTION | FLAG_MOVED),
        ).encode()
        view[:SEGMENT_HEADER_BYTES] = encode_segment_header(
            checkpoint=number,
            flags=0,
            meta_shift=meta.meta_shift,
            data_shift=meta.data_shift,
            meta_blocks=self.meta_blocks,
            data_blocks=self.data_blocks,
            base=base,
            inode=inode,
        )
        if self._data_crcs is None:
            self._data_crcs = self._checksums(
                self._data_offset, self._data_end, meta.data_block_size
            )
        self.trailer = Trailer(
            writer_id=writer_id,
            position=position,
            checkpoint=number,
            summary_crc=crc32c(view[: self._meta_offset]),
            meta_crcs=self._checksums(self._meta_offset, self._data_offset, meta.meta_block_size),
            data_crcs=self._data_crcs,
        )
        view[self._data_end :] = encode_trailer(self.trailer)
        self._rightmost = placement.rightmost
        self.position = position
        self.inode_bytes = inode
        self.number = number

    def _checksums(self, start: int, end: int, block: int) -> array[int]:
        view = self.object
        return array("I", (crc32c(view[at : at + block]) for at in range(start, end, block)))

    def tail(self) -> bytes:
        """Content of the last block of the file, if it is a partial one."""
        size = (self._base.size + self.nbytes) % self._meta.data_block_size
        start = self._data_end - self._meta.data_block_size
        return bytes(self.object[start : start + size])

    def rightmost_nodes(self) -> dict[int, bytes]:
        """The map nodes that the next append comes by, by their pointers. Sealed builds only."""
        size, nodes = self._meta.meta_block_size, {}
        position = -1
        for pointer, level in zip(self._rightmost, self._map.dirty_levels(), strict=True):
            position += len(level)
            start = self._meta_offset + position * size
            nodes[pointer] = bytes(self.object[start : start + size])
        return nodes
