"""`inspect_wal`: everything in the files, also where they are damaged."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hf_agent.wal import Finding, inspect_wal
from support.wal_disk import MemoryDisk
from support.wal_tools import disk_with, fill_file, image_of, open_wal, settle

FIRST, SECOND = "0000000000000001.wal", "0000000000000002.wal"


def written() -> MemoryDisk:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("app", b"hello", marks=[("p", 1)])
    wal.note("app", b"note")
    settle(wal)
    fill_file(wal)
    wal.append("app", b"more")
    settle(wal)
    return disk


def findings(disk: MemoryDisk) -> list[Finding]:
    return list(inspect_wal(disk.root, disk=disk))


def kinds(disk: MemoryDisk) -> Counter[str]:
    return Counter(finding.kind for finding in findings(disk))


def flipped(disk: MemoryDisk, name: str, offset: int) -> MemoryDisk:
    image = image_of(disk)
    data = bytearray(image[name])
    data[offset] ^= 0xFF
    return disk_with({**image, name: bytes(data)})


def offsets(disk: MemoryDisk, name: str, kind: str) -> list[int]:
    return [
        finding.offset
        for finding in findings(disk)
        if finding.kind == kind and finding.file.name == name
    ]


def test_a_sound_log_is_listed_record_by_record() -> None:
    disk = written()
    assert kinds(disk) == {
        "file": 2,
        "snapshot": 2,
        "stream": 2,
        "note": 1,
        "marks": 1,
        "data": 10,
        "index": 1,
        "end": 2,
    }
    first = next(finding for finding in findings(disk) if finding.kind == "data")
    assert first.file == Path("/wal") / FIRST
    assert first.message == "app at 0, 5 bytes, batch 2"
    assert first.details["stream"] == "app"
    assert (first.details["position"], first.details["length"]) == (0, 5)
    last = [finding for finding in findings(disk) if finding.kind == "data"][-1]
    assert last.details["stream"] == "app"
    assert last.details["position"] == 5


def test_it_needs_no_lock_and_changes_nothing() -> None:
    disk = written()
    before, operations = image_of(disk), disk.operations
    wal = open_wal(disk_with(before))
    assert findings(disk)
    assert (image_of(disk), disk.operations) == (before, operations)
    wal.close()


def test_damage_is_told_with_its_place_and_what_follows_is_listed() -> None:
    disk = written()
    data = offsets(disk, FIRST, "data")
    for offset in (data[2] + 10, data[2] + 48 + 100):
        broken = flipped(disk, FIRST, offset)
        assert kinds(broken)["data"] == 9
        assert offsets(broken, FIRST, "damage") == [data[2]]


def test_an_unfinished_batch_is_told() -> None:
    disk = written()
    image = image_of(disk)
    marks = offsets(disk, FIRST, "marks")[0]
    begun = offsets(disk, FIRST, "stream")[0]
    torn = image[FIRST][:marks].ljust(len(image[FIRST]), b"\0")
    broken = disk_with({FIRST: torn})
    assert offsets(broken, FIRST, "torn") == [begun]
    assert offsets(broken, FIRST, "end") == [marks]


def test_damage_of_files_is_told() -> None:
    disk = written()
    image = image_of(disk)
    foreign = MemoryDisk()
    open_wal(foreign, seed=9)
    cases = {
        "bad magic": flipped(disk, SECOND, 0),
        "the index or the footer": flipped(disk, FIRST, len(image[FIRST]) - 5),
        "its head says 32768": disk_with({**image, SECOND: image[SECOND][:-1]}),
        "a copy of the file 1": disk_with({FIRST: image[FIRST], SECOND: image[FIRST]}),
        "another write-ahead log": disk_with({**image, SECOND: image_of(foreign)[FIRST]}),
        "not a file of this log": disk_with({**image, "copy.wal": b""}),
        "sequence 1": disk_with({"0000000000000000.wal": b"", SECOND: image[SECOND]}),
    }
    for text, broken in cases.items():
        messages = [finding.message for finding in findings(broken) if finding.kind == "damage"]
        assert any(text in message for message in messages), (text, messages)


def test_an_unfinished_payload_of_the_last_batch_is_torn_and_no_damage() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("app", b"acknowledged")
    settle(wal)
    wal.append("app", b"written in part" * 20)
    settle(wal)
    (_, last) = offsets(disk, FIRST, "data")
    image = image_of(disk)
    cut = disk_with({FIRST: image[FIRST][: last + 100].ljust(len(image[FIRST]), b"\0")})
    assert offsets(cut, FIRST, "torn") == [last]
    assert kinds(cut)["damage"] == 0
    assert open_wal(cut).recovery.torn is not None
