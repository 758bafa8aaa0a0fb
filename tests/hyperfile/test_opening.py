"""Which objects count as commits when a container is opened, rule by rule."""

from __future__ import annotations

import struct

import pytest

from hf_agent.hyperfile.inode import MAX_CHECKPOINT
from hf_agent.hyperfile.opening import reach_state
from support.appending import KEY, OTHER_WRITER, WRITER, Bench, append, newest_trailer
from support.damage import without_checksums
from support.golden import MANIFEST, golden_store
from support.memory_store import MemoryStore

NAME = "orphan-commit"
COMMIT = f"{NAME}/0000000004.0"
INODE = 24
"""Where the inode stands in a segment header."""


def with_commit(*patches: tuple[int, bytes], name: str = COMMIT) -> MemoryStore:
    store = golden_store(NAME)
    body = store.body(COMMIT)
    del store.objects[COMMIT]
    for offset, value in patches:
        body = body[:offset] + value + body[offset + len(value) :]
    store.put(name, body)
    return store


async def reached(store: MemoryStore, name: str = NAME) -> tuple[int, int]:
    state = await reach_state(store, name)
    return state.inode.last_cno, state.last_number


async def test_a_commit_on_the_state_is_taken_up() -> None:
    assert await reached(with_commit()) == (4, 4)


async def test_a_commit_of_an_older_crate_that_names_no_base_is_taken_up() -> None:
    assert await reached(with_commit((16, bytes(8)))) == (4, 4)


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"\0"),
        (12, b"\x01"),
        (16, b"\x01"),
        (192, b"\x05"),
        (INODE + 45, b"\x0d"),
        (INODE + 44, b"\x05"),
        (INODE + 60, b"\x01"),
        (INODE + 96, b"\x03"),
        (INODE + 88, b"\x03"),
        (INODE + 108, b"\x02"),
        (204, b"\xff"),
    ],
    ids=[
        "magic",
        "partial",
        "base",
        "number",
        "block size",
        "pointer format",
        "inline",
        "last_cno",
        "last_seq",
        "root",
        "counts",
    ],
)
async def test_what_breaks_a_rule_only_takes_its_number(offset: int, value: bytes) -> None:
    store = with_commit((offset, value))
    assert await reached(store) == (3, 4)
    assert not (await reach_state(store, NAME)).taken_up


@pytest.mark.parametrize("name", ["0000000004", "0000000004.1"])
async def test_an_object_of_any_of_the_three_names_takes_the_number(name: str) -> None:
    # Only the name of the container's own format can be a commit.
    assert await reached(with_commit(name=f"{NAME}/{name}")) == (3, 4)


async def test_other_names_take_no_number() -> None:
    store = with_commit(name=f"{NAME}/0000000004.2")
    store.put(f"{NAME}/0000000005.0", b"behind a free number")
    assert await reached(store) == (3, 3)


async def test_numbers_that_a_commit_skipped_are_not_looked_at_again() -> None:
    store = with_commit((INODE + 88, struct.pack("<Q", 7)))
    store.put(f"{NAME}/0000000008.0", b"taken")
    assert await reached(store) == (4, 8)
    assert not [call for call in store.calls if "0000000005" in call.key]


async def test_a_skipped_number_is_followed_by_a_commit_on_the_same_state() -> None:
    bench = Bench()
    created = (await bench.create()).inode_bytes
    bench.store.put(f"{KEY}/0000000001.0", b"garbage")
    await append(await bench.open(), b"content")
    bench.store.put(f"{KEY}/inode", created)
    assert await reached(bench.store, KEY) == (2, 2)


async def test_the_last_number_ends_the_search() -> None:
    store = golden_store("empty")
    inode = store.body("empty/inode")
    store.put("empty/inode", inode[:88] + struct.pack("<Q", MAX_CHECKPOINT) + inode[96:])
    assert await reached(store, "empty") == (0, MAX_CHECKPOINT)
    assert len(store.calls) == 1


@pytest.mark.parametrize("damaged", [False, True])
async def test_a_stream_container_rolls_forward_by_its_own_header(damaged: bool) -> None:
    store = golden_store("stream")
    third = store.body("stream/0000000003.0")[-216:-56]
    store.put("stream/inode", third)
    if damaged:
        body = store.body("stream/0000000004.0")
        store.put("stream/0000000004.0", body[:-1] + bytes([body[-1] ^ 1]))
    assert await reached(store, "stream") == ((3, 4) if damaged else (4, 4))


@pytest.mark.parametrize("name", ["flat", "micro-group", "legacy-02"])
async def test_a_container_without_parts_rolls_forward(name: str) -> None:
    store = golden_store(name)
    store.put(f"{name}/inode", store.body(f"{name}/0000000005")[24:184])
    assert (await reached(store, name))[0] == MANIFEST[name]["last_cno"]


async def test_history_goes_through_checkpoints_that_name_no_base() -> None:
    bench = Bench()
    await append(await bench.create(), b"ours", position=4)
    for _ in range(3):
        await append(await bench.open(OTHER_WRITER), b"theirs")
    for number in (2, 3, 4):
        key = f"{KEY}/{number:010d}.0"
        body = without_checksums(bench.store.body(key))
        bench.store.put(key, body[:16] + bytes(8) + body[24:])
    found = await newest_trailer(await bench.open(), WRITER)
    assert found is not None
    assert found.position == 4
