"""Where a file has data, and where it reads as zeros because nothing is stored."""

from __future__ import annotations

from bisect import bisect_left

from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.dirty import DirtyState
from hf_agent.hyperfile.file.ranges import END
from hf_agent.hyperfile.file.write_ahead import WriteAhead
from hf_agent.hyperfile.pointers import is_place

__all__ = ["BlockFinder"]


class BlockFinder:
    """Finds blocks of a file with its unflushed changes, by what the map says of them.

    A changed block counts as data, whatever is in it; explicit zero blocks are holes.
    """

    def __init__(
        self, content: Content, dirty: DirtyState | None, ahead: WriteAhead | None
    ) -> None:
        self._content = content
        self._dirty = dirty
        self._ahead = ahead
        size, old_end = content.size, content.size
        if dirty is not None:
            size, old_end = dirty.size, dirty.old_end(content.size)
        block_size = content.inode.meta.data_block_size
        self._blocks = -(-size // block_size)
        self._old_blocks = -(-old_end // block_size)

    def _change(self, index: int) -> bool | None:
        """What the changes say of a block: data or hole; None when it is as it was."""
        dirty = self._dirty
        if dirty is not None:
            if index in dirty.blocks or (self._ahead is not None and index in self._ahead):
                return True
            if index in dirty.zeros or index in dirty.cleared:
                return False
        return None if index < self._old_blocks else False

    async def next_data(self, index: int) -> int:
        """The first block from `index` on that has data; `END` when none has.

        Raises `ChecksumError`, `FormatError`, and the store's errors.
        """
        found = END
        if self._dirty is not None:
            found = min((i for i in self._dirty.blocks if i >= index), default=END)
        if self._ahead is not None:
            found = min((i for i in self._ahead.indexes if index <= i < found), default=found)
        limit = min(found, self._old_blocks)
        while index < limit:
            if self._content.map is None:
                return index  # an inline file is all data
            leaf = await self._content.map.leaf(index)
            for slot in range(bisect_left(leaf.keys, index), bisect_left(leaf.keys, limit)):
                if is_place(leaf.values[slot]) and self._change(leaf.keys[slot]) is None:
                    return leaf.keys[slot]
            index = leaf.end
        return found

    async def next_hole(self, index: int) -> int:
        """The first block from `index` on that has none; the number of blocks when all have.

        Raises as `next_data`.
        """
        while index < self._blocks:
            change = self._change(index)
            if change is None and self._content.map is not None:
                leaf = await self._content.map.leaf(index)
                slot = bisect_left(leaf.keys, index)
                while index < min(leaf.end, self._blocks):
                    change = self._change(index)
                    held = slot < len(leaf.keys) and leaf.keys[slot] == index
                    if change is None:
                        change = held and is_place(leaf.values[slot])
                    if not change:
                        return index
                    index, slot = index + 1, slot + held
                continue
            if change is False:
                return index
            index += 1
        return self._blocks
