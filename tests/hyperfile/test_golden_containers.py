"""Containers written by the Rust crate read back with the content that it said they have."""

from __future__ import annotations

import hashlib

import pytest

from hf_agent.hyperfile.errors import NoSuchCheckpoint
from hf_agent.hyperfile.fingerprints import fingerprint
from hf_agent.hyperfile.inode import FLAG_COMPACTION, InodeLayout, with_flags
from hf_agent.hyperfile.opening import reach_state
from hf_agent.hyperfile.reader import Reader
from support.golden import GOLDEN, MANIFEST, checkpoints_of, golden_store

CHECKPOINTS = [
    (name, int(number))
    for name, entry in MANIFEST.items()
    for number in checkpoints_of(name)
    if int(number) <= entry["last_cno"]
]


async def digest(reader: Reader) -> str:
    found = hashlib.sha256()
    async for chunk in reader:
        found.update(chunk)
    return found.hexdigest()


def test_every_golden_folder_is_in_the_manifest() -> None:
    folders = {path.name for path in GOLDEN.iterdir() if path.is_dir()}
    assert folders == {*MANIFEST, "wal"}


@pytest.mark.parametrize("name", MANIFEST)
async def test_a_container_reads_as_the_crate_says(name: str) -> None:
    expected = MANIFEST[name]
    reader = await Reader.open(golden_store(name), name)
    assert reader.size == expected["size"]
    assert reader.inode.last_cno == expected["last_cno"]
    assert await digest(reader) == expected["sha256"]


@pytest.mark.parametrize(("name", "number"), CHECKPOINTS)
async def test_a_container_reads_at_each_checkpoint(name: str, number: int) -> None:
    expected = checkpoints_of(name)[str(number)]
    reader = await Reader.open(golden_store(name), name, checkpoint=number)
    assert reader.size == expected["size"]
    assert await digest(reader) == expected["sha256"]


async def test_a_half_done_commit_is_taken_up() -> None:
    state = await reach_state(golden_store("orphan-commit"), "orphan-commit")
    assert [found.header.checkpoint for found in state.taken_up] == [4]
    assert state.inode.last_cno == state.last_number == 4
    assert state.stored != state.inode_bytes


async def test_a_commit_on_another_state_is_skipped_and_its_number_taken() -> None:
    state = await reach_state(golden_store("orphan-foreign"), "orphan-foreign")
    assert not state.taken_up
    assert (state.inode.last_cno, state.last_number) == (3, 4)
    assert state.stored == state.inode_bytes


async def test_numbers_taken_by_other_bytes_are_skipped() -> None:
    state = await reach_state(golden_store("taken-numbers"), "taken-numbers")
    assert not state.taken_up
    assert (state.inode.last_cno, state.last_number) == (4, 6)


async def test_an_attached_compaction_is_named_by_the_fingerprint_without_its_bit() -> None:
    name = "compaction-attached"
    stored = golden_store(name).objects[f"{name}/inode"]
    fields = dict(
        item.split("=", 1) for item in stored.metadata["hf-compaction"].split(";") if "=" in item
    )
    assert stored.body[60] & FLAG_COMPACTION
    plain = with_flags(stored.body, clear=FLAG_COMPACTION)
    assert plain == (GOLDEN / "parted" / "inode").read_bytes()
    assert fingerprint(plain) == int(fields["fp"], 16)


async def test_the_02_layout_is_told_apart() -> None:
    reader = await Reader.open(golden_store("legacy-02"), "legacy-02")
    assert reader.inode.layout is InodeLayout.LEGACY
    assert reader.inode.uid == reader.inode.gid == 1000


async def test_a_checkpoint_that_is_not_there_is_named_in_the_error() -> None:
    with pytest.raises(NoSuchCheckpoint, match="checkpoint=9"):
        await Reader.open(golden_store("parted"), "parted", checkpoint=9)


@pytest.mark.parametrize("name", ["parted", "stream-parts", "parted-64k-blocks"])
async def test_any_range_reads_as_the_whole_does(name: str) -> None:
    reader = await Reader.open(golden_store(name), name)
    whole = await reader.read(0, reader.size)
    block = reader.inode.meta.data_block_size
    points = sorted({0, 1, block - 1, block, block + 1, 7 * block, reader.size - 1, reader.size})
    for start in points:
        for end in points:
            assert await reader.read(start, max(end - start, 0)) == whole[start : max(end, start)]
    assert await reader.read(reader.size, 10) == await reader.read(reader.size + 5, 1) == b""
