"""A container that is damaged on the store is not appended to; nothing is lost meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.damage import flip, with_trailer_version
from support.flushing import Flushing
from support.memory_store import MemoryStore, StoredObject

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


async def test_on_top_of_a_later_version_nothing_is_appended_and_nothing_is_diverted(
    tmp_path: Path,
) -> None:
    # Taken for a container without trailers, it would look like another writer's, and all that
    # the store has would be stored again beside it.
    store = MemoryStore()
    agent = await Flushing(tmp_path / "wal", store).start()
    await agent.put("app", b"first ")
    await agent.flush()
    await agent.stop()
    written = store.objects[FIRST]
    store.objects[FIRST] = StoredObject(
        with_trailer_version(written.body, 3), written.etag, written.last_modified, written.metadata
    )
    before = dict(store.objects)
    await agent.start()
    await agent.put("app", b"second")
    agent.flusher.urge("app", force=True)
    while not agent.flusher.refused:
        await agent.clock.sleep(0.001)
    assert "has a trailer of version 3, this program knows 1 and 2" in agent.flusher.refused["app"]
    assert f"object={FIRST}" in agent.flusher.refused["app"]
    assert store.objects == before, "nothing is written, here or elsewhere"
    assert await agent.stored(KEY) == b"first ", "it can be read"
    store.objects[FIRST] = written
    await agent.flush()
    assert await agent.stored(KEY) == b"first second"
    await agent.stop()
