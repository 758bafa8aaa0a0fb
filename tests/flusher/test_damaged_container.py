"""A container that is damaged on the store is not appended to; nothing is lost meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.damage import flip
from support.flushing import Flushing
from support.memory_store import MemoryStore

KEY = "n/app"
INODE = f"{KEY}/inode"
FIRST = f"{KEY}/0000000001.0"


def last_block(store: MemoryStore) -> int:
    """A bit of the last, partial data block, which the next checkpoint takes up."""
    return 8 * store.body(FIRST).index(b"first") + 3


@pytest.mark.parametrize("where", ["data", "inode", "header", "trailer"])
async def test_damage_is_not_built_on_and_flushing_goes_on_once_it_is_repaired(
    tmp_path: Path, where: str
) -> None:
    store = MemoryStore()
    agent = await Flushing(tmp_path / "wal", store).start()
    await agent.put("app", b"first ")
    await agent.flush()
    await agent.stop()
    key, bit = {
        "data": (FIRST, last_block(store)),
        "inode": (INODE, 8 * 72 + 5),
        "header": (FIRST, 8 * 30),
        "trailer": (FIRST, 8 * (len(store.body(FIRST)) - 20)),
    }[where]
    flip(store, key, bit)
    before = dict(store.objects)
    await agent.start()
    await agent.put("app", b"second")
    agent.flusher.urge("app", force=True)
    while not agent.flusher.refused:
        await agent.clock.sleep(0.001)
    assert agent.flusher.refused["app"].startswith("damaged container: ")
    assert store.objects == before, "nothing is written, here or elsewhere"
    flip(store, key, bit)
    await agent.flush()
    assert agent.flusher.refused == {}
    assert await agent.stored(KEY) == b"first second"
    await agent.stop()
