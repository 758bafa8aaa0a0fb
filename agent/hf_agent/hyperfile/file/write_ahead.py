"""Changed blocks that go to the store before their checkpoint does, as parts of it.

Nothing refers to such a part before the checkpoint is committed. The parts carry the number that
the checkpoint will most likely have; if it gets another one, they are copied: an object whose
number is below the newest checkpoint's, and that nothing refers to, may be taken for garbage.

In memory stay about 150 bytes for each block written ahead.
"""

from __future__ import annotations

import asyncio
import random
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush

from hf_agent.clock import Clock, ulid
from hf_agent.hyperfile.errors import CheckpointTooLarge
from hf_agent.hyperfile.file.content import Sources
from hf_agent.hyperfile.file.dirty import DirtyBlock
from hf_agent.hyperfile.file.layout import ObjectLayout
from hf_agent.hyperfile.file.object_encoding import (
    Block,
    ObjectIdentity,
    encode_object,
    new_pointers,
)
from hf_agent.hyperfile.file.ranges import RangeSet
from hf_agent.hyperfile.keys import part_key
from hf_agent.hyperfile.meta_config import MetaConfig
from hf_agent.hyperfile.pointers import MAX_PART, Place, decode_place
from hf_agent.hyperfile.refused_write import object_is_ours
from hf_agent.hyperfile.take_up import WRITE_MARK
from hf_agent.store.base import Body, Store, StoreConflict, StoreError

__all__ = ["AheadBlock", "WriteAhead", "create_marked"]

_ENCODED_INLINE_BYTES = 256 << 10
"""Smaller parts are encoded faster than a thread would begin to."""


@dataclass(frozen=True, slots=True)
class AheadBlock:
    """A block to be written ahead, complete."""

    index: int
    data: Block
    written: RangeSet | None
    """The bytes of it that are ours, when not all are."""


@dataclass(slots=True)
class _Part:
    checkpoint: int
    part: int
    layout: ObjectLayout
    indexes: array[int]


class WriteAhead:
    """The parts of one checkpoint to come."""

    def __init__(
        self, store: Store, key: str, meta: MetaConfig, *, clock: Clock, rng: random.Random
    ) -> None:
        self._store = store
        self._key = key
        self._meta = meta
        self._clock = clock
        self._rng = rng
        self._pointers: dict[int, int] = {}
        self._partial: dict[int, RangeSet] = {}
        self._parts: list[_Part] = []
        self._garbage: list[str] = []
        self._held = 0
        self._number = 0
        self._next_part = 1
        self._free: list[int] = []
        """Part numbers below `_next_part` under which nothing could be stored."""
        self._forgotten = 0
        self.uploaded_bytes = 0
        """Of all objects created since the last `reset`."""

    def __contains__(self, index: int) -> bool:
        return index in self._pointers

    def __len__(self) -> int:
        return len(self._pointers)

    def __bool__(self) -> bool:
        return bool(self._pointers)

    def pointer(self, index: int) -> int:
        """Where a block is now."""
        return self._pointers[index]

    @property
    def indexes(self) -> Sequence[int]:
        """Of the blocks written ahead, in no promised order."""
        return list(self._pointers)

    def next_part(self, checkpoint: int) -> int:
        """The first part number of a checkpoint that is free, as far as is known."""
        return self._next_part if checkpoint == self._number else 1

    def drop(self, first: int, end: int) -> None:
        """Forget the blocks `[first, end)`: they have been overwritten, or cut off."""
        if end - first > len(self._pointers):
            doomed = [index for index in self._pointers if first <= index < end]
        else:
            doomed = [index for index in range(first, end) if index in self._pointers]
        for index in doomed:
            del self._pointers[index]
            self._partial.pop(index, None)

    async def take_back(self, index: int, sources: Sources) -> DirtyBlock:
        """Read a block back; it is then no longer one that was written ahead.

        Raises `FormatError`, and the store's errors.
        """
        place = decode_place(self._pointers[index], self._meta.pointer_format)
        data = await sources.objects.read_data(place, 0, self._meta.data_block_size)
        del self._pointers[index]
        return DirtyBlock(data, self._partial.pop(index, None))

    @property
    def partly_ours(self) -> Sequence[int]:
        """Indexes of the blocks that were completed with old content."""
        return list(self._partial)

    async def write(
        self,
        blocks: Sequence[AheadBlock],
        identity: ObjectIdentity,
        *,
        adopt: Callable[[AheadBlock], bool],
    ) -> None:
        """Store complete blocks, in ascending order of their indexes, as one part.

        `identity` names the checkpoint to come, and what is known of it; its part is not used.
        Once it is stored, `adopt` is asked for each block whether it is still what the file holds;
        it is then one that was written ahead. Several calls may overlap. Raises
        `CheckpointTooLarge`, and the store's errors; nothing is remembered then.
        """
        indexes = array("Q", (block.index for block in blocks))
        part = _Part(identity.checkpoint, 0, ObjectLayout(self._meta, 0, len(blocks)), indexes)
        forgotten = self._forgotten
        if not await self._create(part, identity, [block.data for block in blocks]):
            return
        if self._forgotten != forgotten:
            self._garbage.append(part_key(self._key, part.checkpoint, part.part))
            return
        self._parts.append(part)
        pointers = new_pointers(part.layout, part.checkpoint, part.part)
        for block, pointer in zip(blocks, pointers, strict=True):
            if not adopt(block):
                continue
            self._pointers[block.index] = pointer
            self._partial.pop(block.index, None)
            if block.written is not None:
                self._partial[block.index] = block.written.copy()

    async def move(self, identity: ObjectIdentity, sources: Sources) -> None:
        """See to it that all parts are parts of the checkpoint that `identity` names.

        May be called again after it raised. Raises as `write`.
        """
        for old in self._parts:
            if old.checkpoint == identity.checkpoint:
                continue
            size, count = self._meta.data_block_size, old.layout.data_blocks
            place = Place(old.checkpoint, old.part, old.layout.data_offset)
            data = memoryview(await sources.objects.read_data(place, 0, count * size))
            before = new_pointers(old.layout, old.checkpoint, old.part)
            new = _Part(identity.checkpoint, old.part, old.layout, old.indexes)
            blocks = [data[at : at + size] for at in range(0, len(data), size)]
            await self._create(new, identity, blocks)
            after = new_pointers(new.layout, new.checkpoint, new.part)
            for index, was, now in zip(old.indexes, before, after, strict=True):
                if self._pointers.get(index) == was:
                    self._pointers[index] = now
            if old.checkpoint != self._held:
                self._garbage.append(part_key(self._key, old.checkpoint, old.part))
            old.checkpoint, old.part = new.checkpoint, new.part

    async def _create(self, part: _Part, identity: ObjectIdentity, blocks: Sequence[Block]) -> bool:
        """Create a part under a number that is free, and note that number in it; False when
        nobody needs it any more."""
        forgotten = self._forgotten
        while self._forgotten == forgotten:
            part.part = self._take_number(part.checkpoint)
            named = ObjectIdentity(
                checkpoint=part.checkpoint,
                part=part.part,
                base=identity.base,
                inode=identity.inode,
                writer_id=identity.writer_id,
            )
            encode = partial(
                encode_object,
                part.layout,
                named,
                nodes=b"",
                indexes=part.indexes,
                pointers=new_pointers(part.layout, part.checkpoint, part.part),
                blocks=blocks,
            )
            # Checksums of a large part take a while; the event loop has other work.
            small = part.layout.size < _ENCODED_INLINE_BYTES
            body = encode() if small else await asyncio.to_thread(encode)
            key = part_key(self._key, part.checkpoint, part.part)
            # A mark of its own for every try: the blocks may have changed since the last one, and
            # that one may have landed. It then stays behind, and the next number is tried.
            try:
                created = await create_marked(self._store, key, body, ulid(self._clock, self._rng))
            except StoreError:
                if part.checkpoint == self._number:
                    heappush(self._free, part.part)
                raise
            if created:
                if self._forgotten == forgotten:
                    self.uploaded_bytes += part.layout.size
                return True
        return False

    def _take_number(self, checkpoint: int) -> int:
        """A part number that no other part of ours has. Raises `CheckpointTooLarge`."""
        if checkpoint != self._number:
            self._number, self._next_part = checkpoint, 1
            self._free.clear()
        if self._free:
            return heappop(self._free)
        if self._next_part > MAX_PART:
            raise CheckpointTooLarge(
                f"a checkpoint has at most {MAX_PART} parts; flush more often key={self._key}"
            )
        self._next_part += 1
        return self._next_part - 1

    def reset(self, *, abandoned: bool) -> None:
        """Forget everything: it was committed, or else `abandoned`."""
        if abandoned:
            self._garbage += [
                part_key(self._key, each.checkpoint, each.part)
                for each in self._parts
                if each.checkpoint != self._held
            ]
        self._forgotten += 1
        self._pointers.clear()
        self._partial.clear()
        self._parts.clear()
        self.uploaded_bytes = 0

    def hold(self, checkpoint: int) -> None:
        """Do not remove parts of that checkpoint: it may be on the store, and refer to them."""
        self._held = checkpoint

    async def remove_garbage(self) -> None:
        """Delete parts that nothing refers to, as far as the store lets us."""
        while self._garbage:
            try:
                await self._store.delete(self._garbage[-1])
            except StoreError:
                return  # harmless where they are; readers ignore them
            self._garbage.pop()


async def create_marked(store: Store, key: str, body: Body, mark: str) -> bool:
    """Create an object; False when another one has its key.

    `mark` is unique to this write and the same for every resend of it: one that landed and whose
    answer was lost is recognised by it. Raises the store's errors.
    """
    try:
        await store.create(key, body, metadata={WRITE_MARK: mark})
    except StoreConflict:
        return await object_is_ours(store, key, body, mark)
    return True
