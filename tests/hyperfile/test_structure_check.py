"""The structure check: each rule of the format page, broken once, is named."""

from __future__ import annotations

import ast
import struct
import tracemalloc
from collections import deque
from pathlib import Path

import pytest

import hf_agent.hyperfile.check as check_package
from hf_agent.hyperfile import FileOptions
from hf_agent.hyperfile.check import MOST_VIOLATIONS, KnownDamage, Violation, check_structure
from support.broken_rules import BREAKS, INODE, container, drop, name, nodes, patch
from support.files import KEY, FileBench
from support.golden import MANIFEST, golden_store


def test_it_shares_no_code_with_what_reads_and_writes() -> None:
    folder = Path(check_package.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hf_agent"):
                allowed = ("hf_agent.hyperfile.check.", "hf_agent.store.base")
                assert str(node.module).startswith(allowed), f"{path.name}: {node.module}"


@pytest.mark.parametrize("case", BREAKS)
async def test_a_broken_rule_is_named(case: str) -> None:
    store = await container()
    act, rule = BREAKS[case]
    act(store)
    found = await check_structure(store, KEY, bases_after=1)
    assert any(rule in violation.rule for violation in found), [str(each) for each in found]


@pytest.mark.parametrize("at", [-256, -252, -240, -238, -236, -232, -4])
async def test_a_stream_object_with_a_bad_header_is_missed(at: int) -> None:
    store = await container(4)
    body = bytearray(store.body(name(2)))
    body[at] ^= 1
    store.objects[name(2)].body = bytes(body)
    rules = [each.rule for each in await check_structure(store, KEY)]
    assert "the checkpoint of the inode is there" in rules


async def test_dead_slots_are_dead_only_in_stream_objects() -> None:
    store = await container(4)
    patch(store, name(2, 1), -256 - 16 + 8, "Q", 0)
    rules = [each.rule for each in await check_structure(store, KEY)]
    assert len(rules) == 1
    assert rules[0].startswith("a data block has an entry with its own index")


async def test_the_group_of_a_block_counts_in_format_2() -> None:
    store = await container(2)
    key = f"{KEY}/0000000002"
    pointer = struct.unpack_from("<Q", store.body(key), 208 + 8)[0]
    patch(store, key, 208 + 8, "Q", pointer ^ 1)
    rules = [each.rule for each in await check_structure(store, KEY)]
    assert "the pointer of an entry leads to its own slot" in rules


async def test_numbers_in_the_making_and_other_objects_are_nobodys_business() -> None:
    store = await container()
    store.put(name(3, 1), b"a part of a checkpoint to come")
    store.put(f"{KEY}/0000000002", b"of another format")
    store.put(f"{KEY}/notes", b"something else")
    store.put(f"{KEY}/0000000002.99999", b"no part number")
    store.put(name(2, 900), b"left behind by somebody")
    assert await check_structure(store, KEY) == []


async def test_a_missing_object_is_named_once_whatever_points_to_it() -> None:
    store = await container()
    parts = [key for key in store.objects if key.startswith(f"{KEY}/0000000002.")]
    parts.remove(name(2))
    for key in parts:
        drop(store, key)
    found = await check_structure(store, KEY)
    assert sorted(each.object for each in found) == sorted(parts)
    assert {each.rule for each in found} == {"a pointer leads to an object of the container"}


async def test_one_damaged_node_does_not_fill_the_report() -> None:
    store = await container()
    leaf = nodes(store)[1][0]
    patch(store, name(2), leaf + 8 + 8 * 255, "255Q", *[1 << 62 | 2 << 32] * 255)
    (violation,) = await check_structure(store, KEY)
    assert violation.rule == "a pointer leads to a data block (block 0)"


async def test_the_report_has_a_limit() -> None:
    store = await container()
    for part in range(1, 60):
        if name(2, part) in store.objects:
            patch(store, name(2, part), 208, "80Q", *[0] * 80)
    assert len(await check_structure(store, KEY)) == MOST_VIOLATIONS


async def test_a_node_that_stands_under_many_keys_is_named_once() -> None:
    store = await container()
    leaf, inner = nodes(store)[1][0], nodes(store)[2][0]
    patch(store, name(2), leaf + 2, "H", 1)
    pointer = 1 << 62 | 2 << 32 | leaf // 4096 << 14
    patch(store, name(2), inner, "BBHI", 0, 2, 255, 0)
    patch(store, name(2), inner + 8, "510Q", *range(255), *[pointer] * 255)
    found = await check_structure(store, KEY)
    assert [each.rule for each in found] == ["a node's key in its parent is its own first key"]


async def test_a_node_below_itself_is_no_endless_walk() -> None:
    store = await container()
    inner = nodes(store)[2][0]
    pointer = 1 << 62 | 2 << 32 | inner // 4096 << 14
    patch(store, name(2), inner + 8 + 8 * 255, "Q", pointer)
    found = await check_structure(store, KEY)
    assert "levels descend by one" in {each.rule for each in found}
    assert all(each.object == name(2) for each in found)


async def test_what_is_known_to_be_damaged_is_not_named_again() -> None:
    store = await container()
    leaf = nodes(store)[1][0]
    patch(store, name(2), leaf + 2, "H", 200)  # the sum of the blocks is wrong by this, too
    patch(store, name(2, 1), 208 + 16, "Q", 0)
    drop(store, name(2, 2))
    assert len(await check_structure(store, KEY)) >= 3
    known = KnownDamage(objects={name(2, 2)}, entries={name(2, 1)}, nodes={(name(2), leaf)})
    store.put(name(2, 2), b"damaged")
    assert await check_structure(store, KEY, known=known) == []


async def test_a_check_can_begin_at_a_checkpoint_when_the_inode_is_no_use() -> None:
    for pointer_format in (2, 3, 4):
        store = await container(pointer_format)
        store.put(INODE, b"damaged")
        assert await check_structure(store, KEY, newest=2) == []
        key = name(2) if pointer_format > 2 else f"{KEY}/0000000002"
        inode_at = -256 + 40 if pointer_format == 4 else 24
        patch(store, key, inode_at + 80, "Q", 8)
        (found,) = await check_structure(store, KEY, newest=2)
        assert found.rule.startswith("blocks is entries x block size / 512")


async def test_what_breaks_rules_and_is_needed_by_nobody_is_nobodys_business() -> None:
    store = await container()
    loser = bytearray(store.body(name(2, 1)))
    struct.pack_into("<Q", loser, 208 + 16, 0)
    store.put(name(2, 900), bytes(loser))
    assert await check_structure(store, KEY) == []


async def test_a_younger_part_of_a_writer_who_lost_is_nobodys_business() -> None:
    """It was a violation: that writer had built on the same state, and wrote ahead to the same
    number."""
    store = await container()
    store.put(name(2, 900), store.body(name(2, 1)))
    store.objects[name(2, 900)].last_modified = store.now + 60
    assert await check_structure(store, KEY, bases_after=1) == []


async def test_entries_are_read_again_rather_than_kept_without_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = await container()
    monkeypatch.setattr("hf_agent.hyperfile.check.objects._MOST_INDEX_BYTES", 100)
    assert await check_structure(store, KEY, bases_after=1) == []
    patch(store, name(2, 1), 208 + 16, "Q", 1)
    assert await check_structure(store, KEY) != []


async def test_what_several_states_share_is_walked_once() -> None:
    bench = FileBench(options=FileOptions(block_size=4096))
    file = await bench.open("x")
    for index in range(20_000):
        await file.zero(index * 4096, 1)
    for index in range(0, 20_000, 8):
        await file.pwrite(index * 4096, b"x")
    await file.flush()
    for _ in range(30):
        await file.pwrite(0, b"y")
        await file.flush()
    bench.store.calls.clear()
    await bench.check()
    assert len(bench.store.calls) < 31 * 6


@pytest.mark.parametrize("name_", MANIFEST)
async def test_nothing_is_written(name_: str) -> None:
    store = golden_store(name_)
    await check_structure(store, name_)
    assert {call.operation for call in store.calls} <= {"get", "list"}


def test_a_violation_reads_well() -> None:
    text = str(Violation("a/inode", 104, "a map has at most 14 levels"))
    assert text == "a map has at most 14 levels object=a/inode offset=104"


async def appended(checkpoints: int) -> FileBench:
    """A container to which a block was appended that often: each map refers to all before."""
    bench = FileBench(options=FileOptions(block_size=4096))
    async with await bench.open("x") as file:
        for number in range(checkpoints):
            await file.append(bytes([number % 251 + 1]) * 4096)
            await file.flush()
    return bench


async def test_of_too_many_objects_the_newest_are_checked_and_the_rest_is_named() -> None:
    bench = await appended(300)  # the map has more than one node by now
    store = bench.store
    assert await check_structure(store, KEY, max_objects=300) == []
    (left,) = await check_structure(store, KEY, max_objects=40)
    assert (left.unchecked, left.certain, left.object) == (True, False, INODE)
    assert left.rule.startswith("objects of checkpoints up to 260 were not checked for rules")
    # Broken in what is left out: nothing is said. In the newest: it is named.
    patch(store, name(100), 208, "Q", 7)
    assert await check_structure(store, KEY, max_objects=40) == [left]
    patch(store, name(280), 208, "Q", 7)
    found = await check_structure(store, KEY, max_objects=40)
    assert found[0] == left
    assert any("entry" in each.rule for each in found[1:])
    with pytest.raises(ValueError, match="at least one"):
        await check_structure(store, KEY, max_objects=0)


async def test_a_checkpoint_is_checked_with_all_of_its_parts_or_not_at_all() -> None:
    store = await container()
    objects = [key for key in store.objects if not key.endswith("/inode")]
    of_the_last = [key for key in objects if key.startswith(name(2)[:-1])]
    (left,) = await check_structure(store, KEY, max_objects=len(objects) - 1)
    assert "up to 1 were" in left.rule
    (left,) = await check_structure(store, KEY, max_objects=len(of_the_last) - 1)
    assert "up to 2 were" in left.rule


async def test_memory_goes_with_the_objects_that_are_checked_not_with_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is kept of nodes and entries has bounds of its own, which hide the rest here.
    monkeypatch.setattr("hf_agent.hyperfile.check.objects._MOST_NODE_BYTES", 128 << 10)
    monkeypatch.setattr("hf_agent.hyperfile.check.objects._MOST_INDEX_BYTES", 8 << 10)
    bench = await appended(500)
    bench.store.calls = deque(maxlen=1)  # type: ignore[assignment]

    async def most_held(max_objects: int) -> int:
        tracemalloc.start()
        try:
            await check_structure(bench.store, KEY, max_objects=max_objects)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = await most_held(50), await most_held(450)
    print(f"50 objects: {few} bytes, 450 objects: {many}; {(many - few) // 400} an object")
    assert many - few < 400 * 4096
    assert few < many / 2
