"""Containers of the Rust crate, written further in their own format and layout."""

from __future__ import annotations

import hashlib
import random
import struct

import pytest

from hf_agent.hyperfile import FileOptions, HyperFile, ReadOnlyLayout
from hf_agent.hyperfile.check import Violation, check_structure
from hf_agent.hyperfile.inode import decode_inode
from hf_agent.hyperfile.verify import verify_container
from support.golden import DOUBTFUL, MANIFEST, checkpoints_of, golden_store
from support.memory_store import MemoryStore
from support.skipping_clock import SkippingClock

CURRENT = [name for name in MANIFEST if name != "legacy-02"]


async def open_golden(
    store: MemoryStore, name: str, mode: str = "r", **arguments: object
) -> HyperFile:
    return await HyperFile.open(
        *(store, name, mode),  # type: ignore[arg-type]
        clock=SkippingClock(),
        rng=random.Random(5),
        **arguments,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", MANIFEST)
async def test_it_reads_right_now_and_at_its_checkpoints(name: str) -> None:
    store = golden_store(name)
    file = await open_golden(store, name)
    content = await file.pread(0, file.size)
    assert len(content) == MANIFEST[name]["size"]
    assert hashlib.sha256(content).hexdigest() == MANIFEST[name]["sha256"]
    assert file.checkpoint == MANIFEST[name]["last_cno"]
    for number, expected in checkpoints_of(name).items():
        old = await open_golden(store, name, checkpoint=int(number))
        content = await old.pread(0, old.size)
        assert len(content) == expected["size"]
        assert hashlib.sha256(content).hexdigest() == expected["sha256"]


def assert_sound(violations: list[Violation], name: str) -> None:
    """No rule is broken, and nothing is doubtful but what the crate has left so."""
    assert [str(each) for each in violations if each.certain] == []
    doubtful = [f"{each.object.removeprefix(name + '/')}: {each.rule}" for each in violations]
    assert doubtful == DOUBTFUL.get(name, [])


@pytest.mark.parametrize("name", MANIFEST)
async def test_the_structure_check_finds_nothing_to_say_about_it(name: str) -> None:
    assert_sound(await check_structure(golden_store(name), name), name)


@pytest.mark.parametrize("part_bytes", [1 << 30, 40_000])
@pytest.mark.parametrize("name", CURRENT)
async def test_it_is_continued_in_its_own_format(name: str, part_bytes: int) -> None:
    store = golden_store(name)
    store.now += 60  # whoever left a commit half done is dead
    rng = random.Random(name)
    parted = name not in ("flat", "micro-group")
    options = FileOptions(part_bytes=part_bytes if parted else 1 << 30)
    created = store.body(f"{name}/inode") if name == "empty" else None
    before = dict(store.objects)
    file = await open_golden(store, name, "r+", options=options)
    base, meta = file.checkpoint, file.inode.meta
    content = bytearray(await file.pread(0, file.size))
    states: dict[int, bytes] = {}
    for _ in range(8):
        for _ in range(rng.randrange(1, 5)):
            await change(file, content, rng)
            start = rng.randrange(len(content) + 1)
            assert await file.pread(start, 200_000) == content[start : start + 200_000]
        assert await file.pread(0, file.size) == content
        result = await file.flush()
        assert result is not None
        states[result.checkpoint] = bytes(content)
        violations = await check_structure(store, name, created=created, bases_after=base)
        assert_sound(violations, name)
        assert file.inode.meta == meta
    await file.close()
    report = await verify_container(store, name)
    assert (report.errors, report.size) == ([], len(content))
    for number, expected in states.items():
        old = await open_golden(store, name, checkpoint=number)
        assert await old.pread(0, old.size) == expected
    for crates, entry in checkpoints_of(name).items():
        old = await open_golden(store, name, checkpoint=int(crates))
        assert hashlib.sha256(await old.pread(0, old.size)).hexdigest() == entry["sha256"]
    # What was there is as it was, but for the inode; and what is new is of the same kind.
    changed = {k for k, stored in before.items() if store.objects[k].body != stored.body}
    assert changed == {f"{name}/inode"}
    for key in store.objects.keys() - before.keys():
        assert ("." in key) == (meta.pointer_format >= 3)
        magic = store.body(key)[-256:-252] if meta.pointer_format == 4 else store.body(key)[:4]
        assert magic == (b"HFST" if meta.pointer_format == 4 else b"SSFH")


async def change(file: HyperFile, content: bytearray, rng: random.Random) -> None:
    limit = max(len(content), 300_000) + 50_000
    offset = rng.randrange(limit)
    match rng.randrange(5):
        case 0 | 1:
            data = rng.randbytes(rng.choice([1, 100, 4096, 30_000, 150_000]))
            await file.pwrite(offset, data)
            content += bytes(max(offset + len(data) - len(content), 0))
            content[offset : offset + len(data)] = data
        case 2:
            data = rng.randbytes(rng.choice([1, 4096, 80_000]))
            assert await file.append(data) == len(content)
            content += data
        case 3:
            length = rng.choice([1, 4096, 100_000])
            await file.zero(offset, length)
            content += bytes(max(offset + length - len(content), 0))
            content[offset : offset + length] = bytes(length)
        case 4:
            size = rng.choice([offset, len(content) - len(content) // 8, offset // 4])
            await file.truncate(size)
            del content[size:]
            content += bytes(size - len(content))


@pytest.mark.parametrize("name", ["parted", "flat", "micro-group", "stream"])
async def test_what_is_not_ours_to_change_in_an_inode_stays(name: str) -> None:
    store = golden_store(name)
    inode = bytearray(store.body(f"{name}/inode"))
    struct.pack_into("<Q", inode, 0, 77)  # ino
    struct.pack_into("<I", inode, 60, 0x8000_0002)  # an unknown flag, and keep-open
    struct.pack_into("<Q", inode, 64, 3)  # nlink
    number = MANIFEST[name]["last_cno"]
    store.put(f"{name}/inode", bytes(inode))
    file = await open_golden(store, name, "r+")
    await file.append(b"more")
    await file.close()
    after = decode_inode(store.body(f"{name}/inode"), source="inode")
    assert (after.ino, after.flags, after.nlink) == (77, 0x8000_0002, 3)
    assert after.last_cno == number + 1


async def test_a_commit_that_the_crate_left_half_done_is_finished_first() -> None:
    store = golden_store("orphan-commit")
    store.now += 6
    file = await open_golden(store, "orphan-commit", "r+")
    assert file.checkpoint == MANIFEST["orphan-commit"]["last_cno"]
    assert not file.dirty
    commit = store.body(f"orphan-commit/{file.checkpoint:010d}.0")
    assert store.body("orphan-commit/inode") == commit[24:184]


async def test_an_attached_compaction_is_dropped_by_the_next_flush() -> None:
    name = "compaction-attached"
    store = golden_store(name)
    file = await open_golden(store, name, "r+")
    await file.append(b"more")
    await file.flush()
    stored = store.objects[f"{name}/inode"]
    assert not stored.body[60] & 8
    assert set(stored.metadata) == {"hf-write"}
    assert await check_structure(store, name, bases_after=4) == []


@pytest.mark.parametrize("mode", ["r+", "w", "a"])
async def test_the_old_layout_is_read_and_never_written(mode: str) -> None:
    store = golden_store("legacy-02")
    before = {key: stored.body for key, stored in store.objects.items()}
    with pytest.raises(ReadOnlyLayout, match=r"hyperfile 0\.2.*never written.*key=legacy-02"):
        await open_golden(store, "legacy-02", mode)
    assert {key: stored.body for key, stored in store.objects.items()} == before


@pytest.mark.parametrize("mode", ["r+", "w", "a"])
async def test_an_inline_file_is_read_and_never_written(mode: str) -> None:
    store = MemoryStore()
    inode = bytearray(160)
    struct.pack_into("<II", inode, 44, 7 << 24 | 12 << 16 | 12 << 8 | 3, 1000)
    struct.pack_into("<II", inode, 56, 0o100644, 1)
    struct.pack_into("<QQ", inode, 64, 1, 11)
    inode[80:91] = b"hello world"
    store.put("k/inode", bytes(inode))
    file = await open_golden(store, "k")
    assert await file.pread(0, 100) == b"hello world"
    assert await file.pread(6, 3) == b"wor"
    assert (await file.seek_data(2), await file.seek_hole(2)) == (2, 11)
    with pytest.raises(ReadOnlyLayout, match="inline"):
        await open_golden(store, "k", mode)
