"""A container on a memory store, and short ways to append to it."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hf_agent.hyperfile.appender import Appender, CommitResult
from hf_agent.hyperfile.checkpoint_build import CheckpointBuild
from hf_agent.hyperfile.reader import Reader
from hf_agent.hyperfile.trailer import Trailer
from hf_agent.store.base import StoreRetry
from support.container_check import check_container
from support.memory_store import Call, MemoryStore
from support.skipping_clock import SkippingClock

KEY = "node/stream"
WRITER = bytes(range(16))
OTHER_WRITER = bytes(range(16, 32))


@dataclass
class Bench:
    """One container, its store, clock and randomness."""

    store: MemoryStore = field(default_factory=MemoryStore)
    clock: SkippingClock = field(default_factory=SkippingClock)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    block_size: int = 4096
    created: bytes = b""

    async def create(self, writer: bytes = WRITER) -> Appender:
        self.created = Appender.prepare_inode(self.clock.time(), self.block_size)
        return await Appender.create(
            self.store,
            KEY,
            self.created,
            clock=self.clock,
            rng=self.rng,
            writer_id=writer,
            mark="creation",
        )

    async def open(self, writer: bytes = WRITER) -> Appender:
        return await Appender.open(
            self.store, KEY, clock=self.clock, rng=self.rng, writer_id=writer
        )

    def check(self) -> dict[int, bytes]:
        """Every rule of the format; the content at each checkpoint of the history."""
        objects = {key: stored.body for key, stored in self.store.objects.items()}
        return check_container(objects, KEY, created=self.created)

    async def content(self, checkpoint: int | None = None) -> bytes:
        reader = await Reader.open(self.store, KEY, checkpoint=checkpoint)
        return await reader.read(0, reader.size)

    @property
    def inode(self) -> bytes:
        return self.store.body(f"{KEY}/inode")


async def begin(appender: Appender, data: bytes) -> CheckpointBuild:
    build = await appender.begin(len(data))
    build.body[:] = data
    return build


async def append(appender: Appender, data: bytes, *, position: int | None = None) -> CommitResult:
    build = await begin(appender, data)
    at = appender.size + len(data) if position is None else position
    return await appender.commit(build, position=at)


async def newest_trailer(appender: Appender, writer: bytes) -> Trailer | None:
    """The newest trailer of a writer on the way back from the state reached."""
    async for found in appender.history():
        trailer = await appender.trailer_of(found)
        if trailer is not None and trailer.writer_id == writer:
            return trailer
    return None


def fail_once(store: MemoryStore, operation: str, suffix: str, *, after: bool) -> None:
    """Make the next such call fail: before it has its effect, or with its answer lost."""
    armed = True

    def hook(call: Call) -> None:
        nonlocal armed
        if armed and call.operation == operation and call.key.endswith(suffix):
            armed = False
            raise StoreRetry(f"injected operation={operation} key={call.key}")

    if after:
        store.after = hook
    else:
        store.before = hook


def run_once(store: MemoryStore, operation: str, suffix: str, action: object) -> None:
    """Let somebody else act just before the next such call has its effect."""
    assert callable(action)
    armed = True

    def hook(call: Call) -> None:
        nonlocal armed
        if armed and call.operation == operation and call.key.endswith(suffix):
            armed = False
            action()

    store.before = hook
