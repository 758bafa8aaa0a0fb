"""Everything that the library does with a container, done to one that may be damaged."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Awaitable

from hf_agent.hyperfile import (
    FileOptions,
    FormatError,
    HyperFile,
    HyperfileError,
    NoSuchContainer,
    Reader,
    copy,
    diff,
    list_checkpoints,
    rollback,
    stat_container,
)
from hf_agent.hyperfile.check import check_structure
from hf_agent.hyperfile.verify import verify_container
from hf_agent.store.base import StoreRetry
from support.memory_store import MemoryStore
from support.skipping_clock import SkippingClock

__all__ = ["MOST_MEMORY", "Memory", "continue_file", "look", "use_file", "verify"]

MOST_READ = 1_000_000
"""A damaged size may claim anything, and holes are endless."""
MOST_MEMORY = 128 << 20
"""Bytes that no damage may have us allocate beyond what the container has."""
SHORT = FileOptions(cache_bytes=1 << 20)


def check_error(error: HyperfileError) -> None:
    """It is one of the family, and says what is wrong, and where."""
    assert str(error)
    if isinstance(error, FormatError):
        assert error.object
        assert 0 <= error.offset < 1 << 64
        assert error.rule
        assert f"object={error.object} offset={error.offset}" in str(error)


async def allowed(call: Awaitable[object], errors: list[HyperfileError]) -> None:
    """A call that may raise what the family has, or say that other writers are in the way."""
    try:
        await call
    except HyperfileError as error:
        check_error(error)
        errors.append(error)
    except StoreRetry as error:
        assert "other writers" in str(error)


async def look(store: MemoryStore, key: str) -> list[HyperfileError]:
    """Read it in every way there is."""
    clock, rng, errors = SkippingClock(), random.Random(1), list[HyperfileError]()

    async def read_all() -> None:
        reader = await Reader.open(store, key)
        data = await reader.read(0, min(reader.size, MOST_READ))
        assert len(data) == min(reader.size, MOST_READ)
        await reader.read(max(reader.size - 5000, 0), 10_000)

    async def open_file(checkpoint: int | None) -> None:
        file = await HyperFile.open(
            store, key, clock=clock, rng=rng, checkpoint=checkpoint, options=SHORT
        )
        await file.pread(0, min(file.size, MOST_READ))
        await file.pread(max(file.size - 5000, 0), 10_000)
        if file.size:
            try:
                await file.seek_hole(await file.seek_data(0))
            except OSError as error:
                if isinstance(error, HyperfileError):
                    raise

    async def list_all() -> None:
        await stat_container(store, key)
        async for _ in list_checkpoints(store, key):
            pass

    async def compare() -> None:
        await diff(store, key, 1, 2)

    for call in (read_all(), open_file(None), open_file(1), open_file(2), list_all(), compare()):
        await allowed(call, errors)
    return errors


async def use_file(store: MemoryStore, key: str) -> None:
    """Write it further, go back in it, and copy it."""
    errors: list[HyperfileError] = []
    clock, rng = SkippingClock(), random.Random(2)
    await allowed(continue_file(store, key), errors)
    await allowed(rollback(store, key, 1, clock=clock, rng=rng), errors)
    size = await _size(store, key)
    if size is not None and size < MOST_READ:
        target = MemoryStore()
        await allowed(copy(store, key, target, "copy", clock=clock, rng=rng), errors)


async def _size(store: MemoryStore, key: str) -> int | None:
    try:
        return (await Reader.open(store, key)).size
    except HyperfileError:
        return None


async def continue_file(store: MemoryStore, key: str) -> None:
    """Change it here and there, and flush; what was written is read back."""
    clock = SkippingClock()
    clock.on_sleep = lambda seconds: setattr(store, "now", store.now + seconds)
    store.now += 60
    file = await HyperFile.open(store, key, "r+", clock=clock, rng=random.Random(3), options=SHORT)
    try:
        await file.pwrite(100, b"x" * 9000)
        await file.zero(20_000, 3000)
        if file.size < 1 << 40:
            await file.truncate(max(file.size - 1000, 30_000))
        await file.flush()
        assert await file.pread(100, 9000) == b"x" * 9000
        assert await file.pread(20_000, 3000) == bytes(3000)
    finally:
        await file.abort()


async def verify(store: MemoryStore, key: str) -> bool:
    """Verify and check it: neither raises, but where there is no container; whether it is sound."""
    violations = await check_structure(store, key)
    for violation in violations:
        assert violation.object.startswith(f"{key}/")
        assert violation.offset >= 0
        assert violation.rule
    try:
        report = await verify_container(store, key)
    except NoSuchContainer:
        return False
    for finding in (*report.errors, *report.notes):
        assert finding.object.startswith(f"{key}/")
        assert finding.offset >= 0
        assert finding.problem
    if report.sound:
        # An object without a good header, which no version needs, may be anybody's: a note.
        noted = {note.object for note in report.notes}
        assert {each.object for each in violations if each.certain} <= noted
    return report.sound


class Memory:
    """What is allocated within it stays below a bound."""

    def __enter__(self) -> None:
        self._started = not tracemalloc.is_tracing()
        if self._started:
            tracemalloc.start()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1] - self._before
        if self._started:
            tracemalloc.stop()
        assert peak < MOST_MEMORY, f"{peak} bytes"
