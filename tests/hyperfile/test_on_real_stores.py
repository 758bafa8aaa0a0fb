"""The same container on the stores that the agent really uses."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Appender, Reader, list_checkpoints, list_containers
from hf_agent.store.base import Store
from hf_agent.store.directory import DirectoryStore
from support.container_check import check_container
from support.golden import GOLDEN, MANIFEST

WRITER = bytes(16)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = DirectoryStore(tmp_path / "store", clock=SystemClock(), rng=random.Random(1))
    yield store
    await store.close()


async def test_a_container_on_the_directory_store_is_plain_files(
    store: Store, tmp_path: Path
) -> None:
    clock, rng = SystemClock(), random.Random(2)
    created = Appender.prepare_inode(clock.time(), 4096)
    appender = await Appender.create(
        store, "a/b", created, clock=clock, rng=rng, writer_id=WRITER, mark="m"
    )
    content = b""
    for size in (10, 100_000, 1, 3_000_000):
        build = await appender.begin(size)
        build.body[:] = data = rng.randbytes(size)
        content += data
        await appender.commit(build, position=len(content))
    files = {
        f"a/b/{path.name}": path.read_bytes()
        for path in (tmp_path / "store" / "a" / "b").iterdir()
        if not path.name.startswith(".")
    }
    assert check_container(files, "a/b", created=created)[4] == content
    reader = await Reader.open(store, "a/b")
    assert await reader.read(0, reader.size) == content
    assert [item.number async for item in list_checkpoints(store, "a/b")] == [4, 3, 2, 1]
    assert [key async for key in list_containers(store)] == ["a/b"]


@pytest.mark.parametrize("name", ["parted", "stream-parts", "flat"])
async def test_a_container_copied_into_the_directory_store_reads(
    store: Store, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "store" / "copied"
    folder.mkdir(parents=True)
    for path in (GOLDEN / name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    reader = await Reader.open(store, "copied")
    assert reader.size == MANIFEST[name]["size"]
    assert reader.inode.last_cno == MANIFEST[name]["last_cno"]
    assert len(await reader.read(0, reader.size)) == reader.size
