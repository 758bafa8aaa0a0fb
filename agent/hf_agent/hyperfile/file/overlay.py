"""Reads a file with its unflushed changes."""

from __future__ import annotations

from array import array

from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.dirty import DirtyState
from hf_agent.hyperfile.file.write_ahead import WriteAhead
from hf_agent.hyperfile.pointers import HOLE

__all__ = ["read_through"]


async def read_through(
    content: Content, dirty: DirtyState, ahead: WriteAhead, offset: int, length: int
) -> bytes:
    """Bytes `[offset, offset + length)`, all of them below the file's size.

    Shows the changes as they are at the call, whatever is written or flushed while it waits for
    the store. Raises `ChecksumError`, `FormatError`, and the store's errors.
    """
    if length <= 0:
        return b""
    if not dirty.content_changed:
        return await content.read(offset, length)
    size = dirty.block_size
    first, skip = divmod(offset, size)
    count = -(-(skip + length) // size)
    old_end = dirty.old_end(content.size)
    old_blocks = -(-old_end // size)
    instead: dict[int, int] = {}
    patches: list[tuple[int, bytes]] = []
    # No waiting in this loop: it is one look at the changes.
    for index in range(first, first + count):
        block = dirty.blocks.get(index)
        if block is not None:
            low, high = max(offset - index * size, 0), min(offset + length - index * size, size)
            for start, end in block.ranges():
                start, end = max(start, low), min(end, high)
                if start < end:
                    at = index * size + start - offset
                    patches.append((at, bytes(memoryview(block.data)[start:end])))
            if block.written is not None and index < old_blocks and index not in dirty.cleared:
                continue
            instead[index] = HOLE
        elif index in ahead:
            instead[index] = ahead.pointer(index)
        elif index in dirty.zeros or index >= old_blocks or index in dirty.cleared:
            instead[index] = HOLE
    if len(instead) == count:
        pointers = array("Q", instead.values())
    else:
        pointers = await content.pointers(first, count)
        for index, pointer in instead.items():
            pointers[index - first] = pointer
    data = bytearray(await content.read_blocks(pointers, skip, length))
    if old_end // size not in instead:
        # The old content of this block goes on behind where it was cut.
        start = max(old_end - offset, 0)
        end = min((old_end // size + 1) * size - offset, length)
        if start < end:
            data[start:end] = bytes(end - start)
    for at, patch in patches:
        data[at : at + len(patch)] = patch
    return bytes(data)
