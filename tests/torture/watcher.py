"""A reader beside the torture: at every moment it sees a prefix of each log, of whole appends.

It opens containers as anybody would, with the package's own reader, past the faults of the store.
What it has read of a stream once has to be how the stream begins from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import threading
from collections.abc import Callable

from hf_agent.hyperfile.containers import list_containers
from hf_agent.hyperfile.errors import NoSuchContainer
from hf_agent.hyperfile.reader import Reader
from hf_agent.store.base import Store

__all__ = ["Watcher"]

_LOOKS = 20
"""At containers, before they are listed again."""
_MOST_BYTES = 1 << 20
"""Longer streams are compared over their first bytes, and looked at near their end."""


class Watcher(threading.Thread):
    """Reads a container a few times a second, until it is told to end."""

    def __init__(self, open_store: Callable[[], Store], prefix: str, rng: random.Random) -> None:
        super().__init__(name="watcher", daemon=True)
        self._open_store = open_store
        self._prefix = prefix
        self._rng = rng
        self._ending = threading.Event()
        self._seen: dict[str, tuple[int, bytes]] = {}
        self.failure: BaseException | None = None
        self.readings = 0
        self.grown = 0
        """Readings that have found more than the one before."""
        self.has_grown = threading.Event()
        """Set by the first of them, and when the watcher has failed."""

    def tell_to_end(self) -> None:
        """Begin nothing new."""
        self._ending.set()

    def end(self) -> None:
        """End, and wait for it; raises what it found."""
        self._ending.set()
        self.join()
        if self.failure is not None:
            raise AssertionError("a reader saw what it must not") from self.failure

    def run(self) -> None:
        try:
            asyncio.run(self._watch())
        except BaseException as error:
            self.failure = error
            self.has_grown.set()

    async def _watch(self) -> None:
        store = self._open_store()
        try:
            while not self._ending.wait(0.1):
                keys = [key async for key in list_containers(store, self._prefix)]
                for _ in range(_LOOKS if keys else 0):
                    await self._look(store, self._rng.choice(keys))
                    if self._ending.wait(self._rng.uniform(0, 0.5)):
                        break
        finally:
            await store.close()

    async def _look(self, store: Store, key: str) -> None:
        try:
            reader = await Reader.open(store, key)
        except NoSuchContainer:
            return  # it was just being made
        data = await reader.read(0, min(reader.size, _MOST_BYTES))
        self.compare(key, data)
        if reader.size:
            last = await reader.read(reader.size - 1, reader.size)
            assert last == b"\n", f"{key} ends within an append, at {reader.size}"

    def compare(self, key: str, data: bytes) -> None:
        """Hold what was just read of a stream's beginning against what was read before."""
        size, digest = self._seen.get(key, (0, _digest(b"")))
        assert len(data) >= size, f"{key} was longer: {size} bytes, now {len(data)}"
        assert _digest(data[:size]) == digest, f"{key} has changed within its first {size} bytes"
        self._seen[key] = len(data), _digest(data)
        self.readings += 1
        if len(data) > size:
            self.grown += 1
            self.has_grown.set()


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
