"""Uploads of changed blocks that run beside further changes.

A block stays with the changes until its upload is over, so that nothing is missing when that
fails. One that is changed meanwhile is not adopted: its slot in the part is dead then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hf_agent.hyperfile.file.dirty import DirtyState
from hf_agent.hyperfile.file.object_encoding import ObjectIdentity
from hf_agent.hyperfile.file.write_ahead import AheadBlock, WriteAhead

__all__ = ["Flights"]

_LAST_SECONDS = 5.0
"""For uploads that nobody needs any more to end, before they are cut off."""


class Flights:
    """The uploads of one file. Not for calls side by side."""

    def __init__(self, ahead: WriteAhead, block_size: int) -> None:
        self._ahead = ahead
        self._block_size = block_size
        self._running: set[asyncio.Task[None]] = set()
        self._unneeded: set[asyncio.Task[None]] = set()
        self._current: dict[int, int] = {}
        """The upload (a number) that each block's newest bytes are in."""
        self._numbers = 0
        self._blocks = 0
        self._failure: Exception | None = None

    def __contains__(self, index: int) -> bool:
        return index in self._current

    def __len__(self) -> int:
        return len(self._running)

    @property
    def current_bytes(self) -> int:
        """Of blocks that are on their way, and have not been changed since."""
        return len(self._current) * self._block_size

    @property
    def outdated_bytes(self) -> int:
        """What is held only because it is on its way."""
        return self._blocks * self._block_size - self.current_bytes

    @property
    def failed(self) -> bool:
        """Whether an upload has failed, and `wait` has not told of it yet."""
        return self._failure is not None

    def begin(
        self, dirty: DirtyState, blocks: Sequence[AheadBlock], identity: ObjectIdentity
    ) -> None:
        """Upload a part with these blocks of `dirty`; they must not change in place from now on."""
        self._numbers += 1
        self._blocks += len(blocks)
        self._current.update((block.index, self._numbers) for block in blocks)
        upload = self._upload(self._numbers, dirty, blocks, identity)
        task = asyncio.create_task(upload)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(self._unneeded.discard)

    async def _upload(
        self, number: int, dirty: DirtyState, blocks: Sequence[AheadBlock], identity: ObjectIdentity
    ) -> None:
        adopted: list[AheadBlock] = []

        def still_ours(block: AheadBlock) -> bool:
            if self._current.get(block.index) != number:
                return False
            adopted.append(block)
            return True

        try:
            await self._ahead.write(blocks, identity, adopt=still_ours)
            for block in adopted:
                del dirty.blocks[block.index]
        except Exception as error:
            if asyncio.current_task() in self._running:
                self._failure = error
        finally:
            self._blocks -= len(blocks)
            for block in blocks:
                if self._current.get(block.index) == number:
                    del self._current[block.index]

    def drop(self, first: int, end: int) -> None:
        """The blocks `[first, end)` are being changed."""
        if end - first > len(self._current):
            for index in [index for index in self._current if first <= index < end]:
                del self._current[index]
        else:
            for index in range(first, end):
                self._current.pop(index, None)

    async def wait(self) -> None:
        """Until one more upload has ended. Raises what one has failed with, once."""
        if self._running and self._failure is None:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    async def land(self) -> None:
        """Until all have ended. What has failed is still among the changes, as if never begun."""
        while self._running:
            await asyncio.wait(self._running)
        self._failure = None

    def abandon(self) -> None:
        """The changes are being forgotten: what still arrives is garbage."""
        self._current.clear()
        self._failure = None
        self._unneeded |= self._running
        self._running.clear()

    async def end(self) -> None:
        """Give uploads that were abandoned a last chance, so that they can be deleted."""
        if self._unneeded:
            _, late = await asyncio.wait(self._unneeded, timeout=_LAST_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
