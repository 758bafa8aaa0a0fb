"""A container on a memory store, opened as a file; and stores that fail at a chosen point."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hf_agent.hyperfile import FileOptions, HyperFile, list_checkpoints
from hf_agent.hyperfile.check import check_structure
from hf_agent.hyperfile.file.options import Mode
from hf_agent.store.base import StoreRetry
from support.memory_store import Call, MemoryStore
from support.skipping_clock import SkippingClock

KEY = "a/file"
WRITES = ("create", "replace", "delete")


@dataclass
class FileBench:
    """One container, its store, clock and randomness."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: SkippingClock = field(default_factory=SkippingClock)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    options: FileOptions = field(default_factory=lambda: FileOptions(block_size=4096))
    created: bytes = b""

    def __post_init__(self) -> None:
        def pass_time(seconds: float) -> None:
            self.store.now += seconds

        self.clock.on_sleep = pass_time

    async def open(self, mode: Mode = "r+", **arguments: Any) -> HyperFile:
        """Open the container, with the bench's options unless others are given."""
        named: dict[str, Any] = {"options": self.options} | arguments
        file = await HyperFile.open(self.store, KEY, mode, clock=self.clock, rng=self.rng, **named)
        if not self.created:
            self.created = self.store.body(f"{KEY}/inode")
        return file

    async def content(self, checkpoint: int | None = None) -> bytes:
        """The whole file as others see it."""
        file = await self.open("r", checkpoint=checkpoint)
        return await file.pread(0, file.size)

    async def numbers(self) -> list[int]:
        """The checkpoints of the history, newest first."""
        return [each.number async for each in list_checkpoints(self.store, KEY)]

    async def check(self) -> None:
        """Every rule of the format."""
        violations = await check_structure(self.store, KEY, created=self.created, bases_after=0)
        assert [str(each) for each in violations] == []

    def objects(self) -> list[str]:
        """Names of the checkpoint objects, without the container's key."""
        return sorted(key[len(KEY) + 1 :] for key in self.store.objects if "inode" not in key)


class Died(Exception):
    """The process is gone at this point; nobody catches it and goes on."""


def fail_at(
    store: MemoryStore, position: int, *, after: bool, error: Callable[[], Exception]
) -> Callable[[], bool]:
    """Make the write number `position` from now fail, before or after it has its effect.

    Returns what tells whether that write came.
    """
    writes = 0

    def hook(call: Call) -> None:
        nonlocal writes
        if call.operation in WRITES:
            writes += 1
            if writes == position + 1:
                raise error()

    def nothing(call: Call) -> None:
        return

    store.before, store.after = (nothing, hook) if after else (hook, nothing)
    return lambda: writes > position


def heal(store: MemoryStore) -> None:
    """Let every call succeed."""
    store.before = store.after = lambda call: None


def retry() -> Exception:
    """A failure that leaves open whether the call had its effect."""
    return StoreRetry("injected")
