"""What has been changed in a file and not flushed yet, told without the state it was changed on.

    blocks     data blocks with the bytes that were written into them
    zeros      blocks that were overwritten with zeros as a whole
    cleared    ranges of blocks that became holes
    cut        the lowest size that the file was truncated to
    attributes owner, mode and times that were set

A block is in one of `blocks`, `zeros` and (as far as this module is concerned) what was written
ahead; all of them lie above `cleared` and `cut`, which hide the old state. So the changes can be
put on another state than the one they were made on.
"""

from __future__ import annotations

from collections.abc import Iterator

from hf_agent.hyperfile.file.ranges import END, RangeSet

__all__ = ["DirtyBlock", "DirtyState"]


class DirtyBlock:
    """One block. Bytes outside of `written` mean nothing before the block is completed."""

    __slots__ = ("data", "written")

    def __init__(self, data: bytes | bytearray, written: RangeSet | None) -> None:
        self.data = data
        """Exactly one block; `bytes` is copied before it is changed."""
        self.written = written
        """The bytes that were written; None: all of them."""

    def write(self, start: int, data: memoryview) -> None:
        """Put `data` at `start`."""
        if not isinstance(self.data, bytearray):
            self.data = bytearray(self.data)
        end = start + len(data)
        self.data[start:end] = data
        if self.written is not None:
            self.written.add(start, end)
            if self.written.covers(0, len(self.data)):
                self.written = None

    def ranges(self) -> Iterator[tuple[int, int]]:
        """The bytes that were written, ascending."""
        return iter([(0, len(self.data))] if self.written is None else self.written)

    def cut(self, end: int) -> None:
        """Forget what was written from `end` on."""
        if self.written is None:
            self.written = RangeSet()
            self.written.add(0, len(self.data))
        self.written.cut(end)

    def complete(self, old: bytes) -> None:
        """Fill in the old content (at most a block; zeros behind it) around what was written."""
        if self.written is None:
            return
        filled = bytearray(len(self.data))
        filled[: len(old)] = old
        for start, end in self.written:
            filled[start:end] = self.data[start:end]
        self.data = filled


class DirtyState:
    """The changes on top of a state of `size` bytes. Does no input or output."""

    def __init__(self, size: int, block_size: int) -> None:
        self.size = size
        """Of the file with the changes."""
        self.block_size = block_size
        self.blocks: dict[int, DirtyBlock] = {}
        self.zeros: set[int] = set()
        self.cleared = RangeSet()
        self.cut: int | None = None
        self.attributes: dict[str, int] = {}
        self._written_end = 0
        self._changed = False
        self._zero_block = bytes(block_size)

    def __bool__(self) -> bool:
        return self._changed or bool(self.attributes)

    @property
    def content_changed(self) -> bool:
        """Whether more than attributes has changed."""
        return self._changed

    @property
    def memory_bytes(self) -> int:
        """What the blocks take up."""
        return len(self.blocks) * self.block_size

    def old_end(self, old_size: int) -> int:
        """How far the old content reaches: what lies behind was cut off, or never was."""
        return old_size if self.cut is None else min(self.cut, old_size)

    # -- changes ------------------------------------------------------------------------------

    def write(self, offset: int, data: memoryview) -> None:
        """Overwrite or append. The first and last block must not have been written ahead."""
        size = self.block_size
        index, start = divmod(offset, size)
        at = 0
        while at < len(data):
            piece = data[at : at + size - start]
            if len(piece) < size:
                self._write_part(index, start, piece)
            elif (whole := bytes(piece)) == self._zero_block:
                self.blocks.pop(index, None)
                self.zeros.add(index)
            else:
                self.zeros.discard(index)
                self.blocks[index] = DirtyBlock(whole, None)
            at += len(piece)
            index, start = index + 1, 0
        self._grow(offset + len(data))

    def _write_part(self, index: int, start: int, piece: memoryview) -> None:
        block = self.blocks.get(index)
        if block is None:
            whole = index in self.zeros
            self.zeros.discard(index)
            block = DirtyBlock(bytearray(self.block_size), None if whole else RangeSet())
            self.blocks[index] = block
        block.write(start, piece)

    def clear(self, first: int, end: int) -> None:
        """Make holes of whole blocks."""
        self.cleared.add(first, end)
        if end - first > len(self.blocks) + len(self.zeros):
            for index in [index for index in self.blocks if first <= index < end]:
                del self.blocks[index]
            self.zeros = {index for index in self.zeros if not first <= index < end}
        else:
            for index in range(first, end):
                self.blocks.pop(index, None)
                self.zeros.discard(index)
        self._changed = True

    def grow(self, size: int) -> None:
        """Make the file at least that long; what is new is a hole."""
        self._grow(size)

    def shrink(self, size: int) -> None:
        """Cut the file. The block that it then ends in must not have been written ahead."""
        self.size = size
        self._written_end = min(self._written_end, size)
        self.cut = size if self.cut is None else min(self.cut, size)
        index, inside = divmod(size, self.block_size)
        self.clear(index + bool(inside), END)
        if not inside:
            return
        block = self.blocks.get(index)
        if index in self.zeros:
            self.zeros.discard(index)
            block = self.blocks[index] = DirtyBlock(bytearray(self.block_size), None)
        if block is not None:
            block.cut(inside)

    def _grow(self, end: int) -> None:
        self.size = max(self.size, end)
        self._written_end = max(self._written_end, end)
        self._changed = True

    def settle_zeros(self, index: int) -> bool:
        """Whether a completed block is all zeros; it is then noted as such, and freed."""
        if self.blocks[index].data != self._zero_block:
            return False
        if self.blocks[index].written is None:
            del self.blocks[index]
            self.zeros.add(index)
        return True

    # -- another state ------------------------------------------------------------------------

    def rebase(self, size: int) -> None:
        """Go on top of another state, of `size` bytes.

        A file that was cut has our size; any other is as long as the longer of the two.
        """
        if self.cut is None:
            self.size = max(size, self._written_end)
