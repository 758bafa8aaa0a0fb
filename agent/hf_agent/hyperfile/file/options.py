"""What a file is opened with, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.meta_config import (
    MAX_BLOCK_SHIFT,
    MIN_BLOCK_SHIFT,
    MetaConfig,
    PointerFormat,
)
from hf_agent.hyperfile.pointers import MAX_OBJECT_BYTES

__all__ = ["DEFAULT_OPTIONS", "MAX_FILE_BYTES", "ByteRange", "FileOptions", "FileStat", "Mode"]

Mode = Literal["r", "r+", "w", "a", "x"]
MAX_FILE_BYTES = (1 << 63) - 1
"""File offsets are signed 64-bit numbers wherever such a file is used."""


class ByteRange(NamedTuple):
    """Bytes `[start, end)` of a file."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class FileOptions:
    """How a file is created, buffered and flushed. Sizes in bytes.

    Block sizes and pointer format are those of a container that is created: one that exists keeps
    its own. Raises `ValueError` for values that the format does not have.
    """

    block_size: int = 65536
    """Of data blocks: a power of two from 4096 to 2^30 that fits an object."""
    meta_block_size: int = 4096
    """Of the nodes of the block map: the same."""
    pointer_format: int = 3
    """1 flat, 2 micro-group, 3 parted, 4 stream."""
    part_bytes: int = MAX_OBJECT_BYTES
    """Larger checkpoints go out in several objects of about this size, at most 1 GiB (formats 3
    and 4). An object holds at least one block, and all of a checkpoint's map."""
    dirty_bytes: int = 128 << 20
    """Changed blocks kept in memory. From half of that on they are written ahead, without being
    published (formats 3 and 4); formats 1 and 2 keep a whole checkpoint in memory."""
    ahead_bytes: int = 16 << 20
    """Size of the objects that are written ahead; those of a checkpoint with thousands of them are
    larger."""
    uploads: int = 4
    """Objects of one file that are uploaded at a time."""
    request_bytes: int = 8 << 20
    """Blocks that lie side by side are read in one request of up to this size."""
    requests: int = 8
    """Requests for data of one read at a time."""
    on_conflict: Literal["fail", "retry"] = "fail"
    """What a flush does when another writer came first."""
    cache_bytes: int = 64 << 20
    """Memory for what is read again and again: headers, checksums and map nodes."""

    def __post_init__(self) -> None:
        self.meta_config()
        for name in ("ahead_bytes", "uploads", "request_bytes", "requests"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above zero {name}={getattr(self, name)}")
        for name in ("part_bytes", "dirty_bytes", "cache_bytes"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is not negative {name}={getattr(self, name)}")
        if not 0 < self.part_bytes <= MAX_OBJECT_BYTES:
            raise ValueError(f"an object has at most 1 GiB part_bytes={self.part_bytes}")
        if self.on_conflict not in ("fail", "retry"):
            raise ValueError(f"on_conflict is 'fail' or 'retry' on_conflict={self.on_conflict!r}")

    def meta_config(self) -> MetaConfig:
        """Block sizes and pointer format. Raises `ValueError`."""
        shifts = self.meta_block_size.bit_length() - 1, self.block_size.bit_length() - 1
        if (
            self.block_size != 1 << max(shifts[1], 0)
            or self.meta_block_size != 1 << max(shifts[0], 0)
            or not all(MIN_BLOCK_SHIFT <= shift <= MAX_BLOCK_SHIFT for shift in shifts)
        ):
            raise ValueError(
                "block sizes are powers of two from 4096 to 2^30 "
                f"block_size={self.block_size} meta_block_size={self.meta_block_size}"
            )
        if self.pointer_format not in (1, 2, 3, 4):
            raise ValueError(f"pointer formats go from 1 to 4 pointer_format={self.pointer_format}")
        return MetaConfig(*shifts, PointerFormat(self.pointer_format))


DEFAULT_OPTIONS = FileOptions()


@dataclass(frozen=True, slots=True)
class FileStat:
    """What a file is, with its unflushed size and attributes. Sizes in bytes, times in Unix ns."""

    size: int
    blocks: int
    """What the base state's blocks take up, in units of 512 bytes; explicit zero blocks count."""
    mode: int
    uid: int
    gid: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    checkpoint: int
    """Number of the checkpoint that the file is based on; 0: none."""
    block_size: int
    meta_block_size: int
    pointer_format: int

    @classmethod
    def of(cls, inode: Inode) -> FileStat:
        """What an inode says."""
        return cls(
            size=inode.size,
            blocks=inode.blocks,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            atime_ns=inode.atime_ns,
            mtime_ns=inode.mtime_ns,
            ctime_ns=inode.ctime_ns,
            checkpoint=inode.last_cno,
            block_size=inode.meta.data_block_size,
            meta_block_size=inode.meta.meta_block_size,
            pointer_format=int(inode.meta.pointer_format),
        )
