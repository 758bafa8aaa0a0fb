"""A damaged and repaired log: what the store has of it is found, all else goes there once.

Each test flips bytes in the files of a log that was flushed in part, repairs it, and lets an agent
go on with it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.hyperfile import Appender
from hf_agent.streams.repaired import encode_repaired, is_repaired
from hf_agent.wal import WalCorrupt
from hf_agent.wal.inspect import Finding, inspect_wal
from hf_agent.wal.repair import RepairReport, repair_wal
from support.flushing import Flushing
from support.memory_store import MemoryStore

LINES = [b"line %d of the stream\n" % number for number in range(12)]


def records(agent: Flushing, kind: str) -> list[Finding]:
    return [found for found in inspect_wal(agent.folder) if found.kind == kind]


def records_of(agent: Flushing, stream: str) -> list[Finding]:
    return [found for found in records(agent, "data") if found.details["stream"] == stream]


def flip(found: Finding, at: int) -> None:
    with found.file.open("r+b") as file:
        file.seek(found.offset + at)
        (byte,) = file.read(1)
        file.seek(found.offset + at)
        file.write(bytes([byte ^ 0x10]))


def repair(agent: Flushing) -> RepairReport:
    report = repair_wal(
        agent.folder, clock=SystemClock(), rng=random.Random(5), mend=encode_repaired
    )
    assert report.repaired
    return report


async def written(folder: Path, store: MemoryStore, flushed: int) -> Flushing:
    """An agent that died with all lines in its log, the first ones of them on the store."""
    agent = await Flushing(folder / "wal", store).start()
    for line in LINES[:flushed]:
        await agent.put("app", line)
    if flushed:
        await agent.flush()
    for line in LINES[flushed:]:
        await agent.put("app", line)
    # A batch behind the last line: it is no unfinished write.
    await agent.put("other", b"of another stream")
    await crash(agent)
    return agent


async def crash(agent: Flushing) -> None:
    """Stop the agent, and leave its log as it was before it was told to stop."""
    files = {path: path.read_bytes() for path in agent.folder.glob("*.wal")}
    await agent.stop()
    for path, data in files.items():
        path.write_bytes(data)


async def stored_after(agent: Flushing) -> bytes:
    """What is on the store when the agent went on: a line more, a restart, and another one."""
    await agent.start()
    await agent.put("app", b"after the repair\n")
    await agent.flush()
    await crash(agent)
    await agent.start()
    await agent.put("app", b"and after a restart\n")
    await agent.flush()
    assert agent.conflicts == 0
    content = await agent.stored("n/app")
    await agent.stop()
    end = b"after the repair\nand after a restart\n"
    assert content.endswith(end)
    return content.removesuffix(end)


@pytest.mark.parametrize("flushed", [0, 1, 4, 5, 11, 12])
@pytest.mark.parametrize("lost", [0, 4, 11])
@pytest.mark.parametrize("place", [9, 50])
async def test_a_lost_record_costs_at_most_itself_and_nothing_is_stored_twice(
    tmp_path: Path, flushed: int, lost: int, place: int
) -> None:
    # Header or payload, with the store anywhere before, in or behind the damage.
    agent = await written(tmp_path, MemoryStore(), flushed)
    flip(records_of(agent, "app")[lost], place)
    with pytest.raises(WalCorrupt):
        await agent.start()
    repair(agent)
    expected = list(LINES)
    if flushed <= lost:
        # Only a header, or what comes behind, tells that something was there.
        known = place == 50 or lost < len(LINES) - 1
        expected[lost] = bytes(len(LINES[lost])) if known else b""
    assert await stored_after(agent) == b"".join(expected)


async def test_what_the_store_has_of_a_region_with_lost_borders_is_gone_on_from(
    tmp_path: Path,
) -> None:
    agent = await written(tmp_path, MemoryStore(), 5)
    data = records_of(agent, "app")
    for lost in (3, 4, 5, 6):
        flip(data[lost], 9)
    (loss,) = repair(agent).losses
    assert loss.gaps == ((len(b"".join(LINES[:3])), len(b"".join(LINES[:7]))),)
    zeros = bytes(len(LINES[5] + LINES[6]))
    assert await stored_after(agent) == b"".join(LINES[:5]) + zeros + b"".join(LINES[7:])


async def test_what_the_store_has_beyond_the_end_of_the_log_is_kept(tmp_path: Path) -> None:
    agent = await written(tmp_path, MemoryStore(), len(LINES))
    data = records_of(agent, "app")
    for found in data[8:]:
        flip(found, 9)
    (loss,) = repair(agent).losses
    assert (loss.gaps, loss.end) == ((), len(b"".join(LINES[:8])))
    assert loss.end_unknown >= len(b"".join(LINES[8:]))
    assert await stored_after(agent) == b"".join(LINES)


@pytest.mark.parametrize("flushed", [3, len(LINES)])
@pytest.mark.parametrize("place", [9, 50])
async def test_without_its_bind_a_stream_is_found_by_its_newest_checkpoint(
    tmp_path: Path, flushed: int, place: int
) -> None:
    agent = await written(tmp_path, MemoryStore(), flushed)
    flip(records(agent, "note")[0], place)
    repair(agent)
    assert await stored_after(agent) == b"".join(LINES)


async def test_without_its_bind_a_stream_goes_on_behind_what_others_wrote(tmp_path: Path) -> None:
    store = MemoryStore()
    clock, rng = SystemClock(), random.Random(8)
    inode = Appender.prepare_inode(1.0, 4096)
    other = await Appender.create(
        store, "n/app", inode, clock=clock, rng=rng, writer_id=b"somebody elses!!", mark="m"
    )
    build = await other.begin(4)
    build.body[:] = b"old "
    await other.commit(build, position=4)
    agent = await written(tmp_path, store, 0)
    flip(records(agent, "data")[2], 9)
    repair(agent)
    content = await stored_after(agent)
    expected = [*LINES[:2], bytes(len(LINES[2])), *LINES[3:]]
    assert content == b"old " + b"".join(expected)


async def test_a_crash_between_repair_and_flush_changes_nothing(tmp_path: Path) -> None:
    agent = await written(tmp_path, MemoryStore(), len(LINES))
    data = records_of(agent, "app")
    flip(data[-1], 9)
    repair(agent)
    await agent.start()
    view = agent.wal.stream("app")
    assert view is not None
    assert is_repaired(view.note)
    await agent.put("app", b"longer than what was lost, so that positions pass its end\n")
    await crash(agent)
    await agent.start()
    await crash(agent)
    content = await stored_after(agent)
    end = b"longer than what was lost, so that positions pass its end\n"
    assert content == b"".join(LINES) + end


async def test_a_second_damage_before_the_first_flush_changes_nothing(tmp_path: Path) -> None:
    agent = await written(tmp_path, MemoryStore(), len(LINES))
    flip(records_of(agent, "app")[-1], 9)
    repair(agent)
    await agent.start()
    await agent.put("app", b"one more\n")
    await agent.put("app", b"lost\n")
    await agent.put("other", b"so that it is no unfinished write")
    await crash(agent)
    flip(records_of(agent, "app")[-1], 9)
    repair(agent)
    assert await stored_after(agent) == b"".join(LINES) + b"one more\n"
