"""Every rule of the format, broken once, is an error of a verification, and of the command."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from hf_agent.hyperfile.check import check_structure
from hf_agent.hyperfile.verify import VerifyReport, verify_container
from support.broken_rules import BREAKS, INODE, container, name, nodes, patch
from support.damage import without_checksums
from support.files import KEY
from support.golden import MANIFEST, golden_store
from support.memory_store import MemoryStore

OWN_WORDS = "a rule does not hold: "
"""Of findings that only the structure check has."""
MAY_BE = {"a base that is no state", "a part younger than part 0"}
"""An inode that was changed without a checkpoint, a container that was copied: notes."""
NEEDS_METADATA = {"compaction flag"}
"""No directory can hold what this rule speaks of."""


async def as_of_the_crate() -> MemoryStore:
    """A container without checksums: nothing but its structure tells what is wrong with it."""
    store = await container()
    for key, each in store.objects.items():
        if key != INODE:
            store.objects[key] = replace(each, body=without_checksums(each.body))
    return store


def assert_none_twice(report: VerifyReport) -> None:
    spots = [(each.object, each.offset, each.problem) for each in report.errors]
    assert len(spots) == len(set(spots))
    others = {(each.object, each.what) for each in report.errors if OWN_WORDS not in each.problem}
    for each in report.errors:
        if OWN_WORDS in each.problem:
            assert (each.object, each.what) not in others, report.errors


@pytest.mark.parametrize("case", BREAKS)
async def test_a_broken_rule_is_an_error_and_no_two(case: str) -> None:
    store = await as_of_the_crate()
    assert (await verify_container(store, KEY)).errors == []
    BREAKS[case][0](store)
    if case == "no inode":
        return  # there is no container, then
    report = await verify_container(store, KEY)
    assert report.sound == (case in MAY_BE)
    assert_none_twice(report)
    rule = BREAKS[case][1]
    broken = [each for each in await check_structure(store, KEY) if rule in each.rule]
    if case not in MAY_BE:
        # In words of its own where the rest of the verification has not come to that part.
        assert {each.object for each in broken} & {each.object for each in report.errors}
    if case in MAY_BE:
        assert any(BREAKS[case][1] in each.problem for each in report.notes)


@pytest.mark.parametrize("case", [case for case in BREAKS if case not in NEEDS_METADATA | MAY_BE])
async def test_the_command_ends_with_1_and_lists_it(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, case: str
) -> None:
    store = await as_of_the_crate()
    BREAKS[case][0](store)
    for key, each in store.objects.items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.body)
        os.utime(path, (each.last_modified, each.last_modified))
    assert await command("verify", f"file:{tmp_path}/{KEY}", "--json") == 1
    out, _ = capfd.readouterr()
    if case != "no inode":
        found = json.loads(out)
        assert found["sound"] is False
        assert found["errors"]
    assert await command("verify", f"file:{tmp_path}/{KEY}") == 1
    out, err = capfd.readouterr()
    assert case == "no inode" or out.startswith("error ")
    assert "hf-agent: " in err


async def command(*args: str) -> int:
    return await asyncio.to_thread(main, list(args))


async def test_a_rule_that_no_reader_looks_at_is_an_error_all_the_same() -> None:
    store = await as_of_the_crate()
    patch(store, name(2), nodes(store)[1][0] + 4, "I", 3)
    (finding,) = (await verify_container(store, KEY)).errors
    assert (finding.object, finding.what) == (name(2), "map node 1")
    assert finding.problem == f"{OWN_WORDS}user data of a node below the root is 0"
    assert finding.offset == nodes(store)[1][0] + 4


async def test_the_rules_are_checked_from_the_newest_checkpoint_when_the_inode_is_damaged() -> None:
    store = await as_of_the_crate()
    patch(store, name(2), nodes(store)[1][0] + 4, "I", 3)
    store.put(INODE, b"damaged")
    found = (await verify_container(store, KEY)).errors
    assert {(each.object, each.what) for each in found} == {
        (INODE, "inode"),
        (name(2), "map node 1"),
    }


@pytest.mark.parametrize("container_name", MANIFEST)
async def test_containers_of_the_crate_break_no_rule(container_name: str) -> None:
    report = await verify_container(golden_store(container_name), container_name)
    assert report.errors == []


async def test_it_costs_one_request_more_for_an_object() -> None:
    store = await container()
    store.calls.clear()
    await check_structure(store, KEY)
    alone = len(store.calls)
    assert alone <= len(store.objects) + 12


async def test_a_damaged_part_of_a_checkpoint_that_is_gone_is_no_crash() -> None:
    """It was: the search for what the damage makes unreadable asked for the checkpoint."""
    store = golden_store("parted-parts")
    del store.objects["parted-parts/0000000003.0"]
    store.put("parted-parts/0000000003.3", store.body("parted-parts/0000000001.1"))
    store.put("parted-parts/0000000006.0", store.body("parted-parts/0000000006.0")[:7876])
    report = await verify_container(store, "parted-parts")
    assert {each.object for each in report.errors} >= {"parted-parts/0000000003.3"}
