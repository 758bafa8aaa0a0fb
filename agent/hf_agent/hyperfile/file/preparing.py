"""From a file's changes to the objects of a checkpoint."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import CheckpointTooLarge
from hf_agent.hyperfile.file.build import FileBuild
from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.dirty import DirtyBlock, DirtyState
from hf_agent.hyperfile.file.map_changes import MapChanges
from hf_agent.hyperfile.file.map_update import update_map
from hf_agent.hyperfile.file.ranges import RangeSet
from hf_agent.hyperfile.file.write_ahead import WriteAhead
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.nodes import node_capacity

__all__ = ["changed_inode", "check_room", "complete_blocks", "prepare_build"]

_READS_AT_A_TIME = 16


def check_room(
    content: Content, dirty: DirtyState, new_blocks: int, *, part_bytes: int, key: str
) -> None:
    """Whether so many more blocks fit the checkpoint, in formats that have no parts.

    Raises `CheckpointTooLarge`.
    """
    meta = content.inode.meta
    if meta.pointer_format.parted:
        return
    # At worst, each block needs a path of map nodes of its own.
    levels = content.map.root.level + 1 if content.map is not None else 1
    each = meta.data_block_size + 20 + levels * (meta.meta_block_size + 4)
    changed = len(dirty.blocks) + len(dirty.zeros)
    if (changed + new_blocks) * each > max(part_bytes, 4 * each):
        raise CheckpointTooLarge(
            "a checkpoint of this format is one object, and that is full: flush, then go on "
            f"key={key} pointer_format={int(meta.pointer_format)} changed_blocks={changed} "
            f"new_blocks={new_blocks}"
        )


async def complete_blocks(content: Content, dirty: DirtyState, indexes: Sequence[int]) -> None:
    """Fill in the old content of blocks that were written in part.

    Raises `ChecksumError`, `FormatError`, and the store's errors; may then be called again.
    """
    end, size = dirty.old_end(content.size), dirty.block_size

    async def complete(index: int) -> None:
        block, start = dirty.blocks[index], index * size
        if block.written is None:
            return
        length = 0 if index in dirty.cleared else max(min(end - start, size), 0)
        covered = block.written.covers(0, length)
        block.complete(b"" if covered else await content.read(start, length))

    await map_concurrently(complete, indexes, limit=_READS_AT_A_TIME)


def changed_inode(before: Inode, dirty: DirtyState, now_ns: int) -> Inode:
    """An inode with the changes, but for its map and numbers; `now_ns` is the time of them."""
    attributes = dirty.attributes
    return replace(
        before,
        size=dirty.size,
        ctime_ns=now_ns,
        mtime_ns=attributes.get("mtime_ns", now_ns if dirty.content_changed else before.mtime_ns),
        atime_ns=attributes.get("atime_ns", before.atime_ns),
        mode=attributes.get("mode", before.mode),
        uid=attributes.get("uid", before.uid),
        gid=attributes.get("gid", before.gid),
    )


async def prepare_build(
    content: Content, dirty: DirtyState, ahead: WriteAhead, now_ns: int, *, part_bytes: int
) -> FileBuild:
    """A checkpoint with all changes, on top of `content`.

    Changes nothing but that partial blocks are completed, and blocks of zeros noted as such.
    Raises `CheckpointTooLarge`, `ChecksumError`, `FormatError`, and the store's errors; may then be
    called again.
    """
    assert content.map is not None
    _hold_the_cut_block(content, dirty, ahead)
    partial = [index for index, block in dirty.blocks.items() if block.written is not None]
    await complete_blocks(content, dirty, partial)
    zeros = {index for index in list(dirty.blocks) if dirty.settle_zeros(index)} | dirty.zeros
    in_memory = array("Q", sorted(index for index in dirty.blocks if index not in zeros))
    written = array("Q", sorted([*in_memory, *ahead.indexes])) if ahead else in_memory
    new_map = await update_map(
        content.map,
        MapChanges(written, array("Q", sorted(zeros)), dirty.cleared),
        capacity=node_capacity(content.inode.meta.meta_block_size),
    )
    return FileBuild(
        changed_inode(content.inode, dirty, now_ns),
        new_map,
        content.map.user_data,
        written=written,
        blocks=[dirty.blocks[index].data for index in in_memory],
        in_memory=in_memory,
        ahead=ahead,
        part_bytes=part_bytes,
    )


def _hold_the_cut_block(content: Content, dirty: DirtyState, ahead: WriteAhead) -> None:
    """The block in which the file was cut is written anew, zeros behind the cut."""
    if dirty.cut is None or dirty.cut >= content.size:
        return
    index, inside = divmod(dirty.cut, dirty.block_size)
    changed = index in dirty.blocks or index in dirty.zeros or index in ahead
    if inside and not changed and index not in dirty.cleared:
        dirty.blocks[index] = DirtyBlock(bytearray(dirty.block_size), RangeSet())
