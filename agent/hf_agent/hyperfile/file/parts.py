"""The parts of a checkpoint that are written right before it."""

from __future__ import annotations

from collections.abc import Callable

from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.errors import CheckpointTooLarge
from hf_agent.hyperfile.file.build import FileBuild
from hf_agent.hyperfile.file.content import Sources
from hf_agent.hyperfile.file.object_encoding import ObjectIdentity
from hf_agent.hyperfile.file.write_ahead import WriteAhead, create_marked
from hf_agent.hyperfile.keys import part_key
from hf_agent.hyperfile.pointers import MAX_PART
from hf_agent.store.base import Store

__all__ = ["FileParts"]

_AT_A_TIME = 4
"""Parts that are uploaded side by side."""


class FileParts:
    """Creates the parts of one build; satisfies `CommitParts`."""

    def __init__(
        self,
        store: Store,
        key: str,
        build: FileBuild,
        *,
        ahead: WriteAhead,
        sources: Sources,
        identity: Callable[[int, int], ObjectIdentity],
        new_mark: Callable[[], str],
    ) -> None:
        """`identity` tells what a part says, by the checkpoint's number and its base."""
        self._store = store
        self._key = key
        self._build = build
        self._ahead = ahead
        self._sources = sources
        self._identity = identity
        self._new_mark = new_mark
        self._created: set[int] = set()
        self._marks: dict[int, str] = {}

    async def prepare(self, number: int, base: int) -> None:
        """Move what was written ahead to checkpoint `number`. Raises as `WriteAhead.move`."""
        self._created.clear()
        self._marks.clear()
        await self._ahead.move(self._identity(number, base), self._sources)

    async def create(self) -> bool:
        """Create all parts; False when some go under other part numbers, for the next try.

        Raises `CheckpointTooLarge` when there are none left, and the store's errors.
        """
        numbers = self._build.part_numbers
        waiting = [at for at in range(1, len(numbers)) if at not in self._created]
        taken: list[int] = []

        async def create(at: int) -> None:
            key = part_key(self._key, self._build.number, numbers[at])
            mark = self._marks.setdefault(at, self._new_mark())
            if await create_marked(self._store, key, self._build.bodies[at], mark):
                self._created.add(at)
            else:
                taken.append(at)

        await map_concurrently(create, waiting, limit=_AT_A_TIME)
        for at in taken:
            # Left behind by somebody, or written ahead by another writer: any other number will do.
            numbers[at] = max(numbers) + 1
            self._marks.pop(at)
            if numbers[at] > MAX_PART:
                raise CheckpointTooLarge(
                    f"no part numbers are left key={self._key} checkpoint={self._build.number}"
                )
        return not taken
