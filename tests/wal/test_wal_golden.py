"""Logs that earlier versions wrote open in this one, and this one writes what its version says."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path

import msgpack
import pytest
from crc32c import crc32c

from hf_agent.clock import SystemClock
from hf_agent.streams.bind import Bind, decode_bind
from hf_agent.streams.repaired import decode_repaired, is_repaired
from hf_agent.wal import Wal, WalConfig, WalCorrupt
from hf_agent.wal.batch import Item, encode
from hf_agent.wal.file_head import VERSION, FileHead
from hf_agent.wal.inspect import inspect_wal
from hf_agent.wal.record import DATA, FILL, MARKS, SNAPSHOT, file_seed
from hf_agent.wal.repair import repair_wal
from support.wal_disk import MemoryDisk
from support.wal_golden import EXPECTED, MAKERS, content_of, goldens, key_of, make
from support.wal_tools import disk_with, image_of, later_version, open_wal, settle

GOLDENS = goldens()
PRESENT = f"{VERSION}-"


@pytest.fixture(params=GOLDENS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def opened(folder: Path) -> Wal:
    return Wal.open(folder, WalConfig(), clock=SystemClock(), rng=random.Random(1))


def copy_of(golden: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(golden, tmp_path / "wal"))


def test_every_kind_of_log_is_there_in_the_present_version() -> None:
    present = {path.name.removeprefix(PRESENT) for path in GOLDENS if path.name.startswith(PRESENT)}
    assert present == set(MAKERS), "write them with python tests/support/wal_golden.py"


def test_it_opens_and_holds_what_was_written(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / EXPECTED).read_text(encoding="utf-8"))
    wal = opened(copy_of(golden, tmp_path))
    assert content_of(wal, [key_of(key) for key, _ in expected["marks"]]) == expected
    assert wal.recovery.corruptions == 0
    wal.close()


def test_it_goes_on_and_keeps_what_it_had(golden: Path, tmp_path: Path) -> None:
    expected = json.loads((golden / EXPECTED).read_text(encoding="utf-8"))
    keys = [key_of(key) for key, _ in expected["marks"]]
    folder = copy_of(golden, tmp_path)
    wal = opened(folder)
    wal.append("later", b"appended by a later version", marks=[("a later producer", 1)])
    settle(wal)
    wal.close()
    wal = opened(folder)
    found = content_of(wal, keys)
    assert found["streams"].pop("later")["text"] == "appended by a later version"
    assert found == {**expected, "torn": False}
    wal.close()


def test_its_notes_can_be_read(golden: Path) -> None:
    expected = json.loads((golden / EXPECTED).read_text(encoding="utf-8"))
    notes = [bytes.fromhex(each["note"]) for each in expected["streams"].values() if each["note"]]
    for note in notes:
        if is_repaired(note):
            note = decode_repaired(note).bind
        if note:
            assert isinstance(decode_bind(note), Bind)
    assert notes or golden.name.endswith("epochs")


def test_its_folder_names_the_version_that_its_files_have(golden: Path) -> None:
    for path in golden.glob("*.wal"):
        (version,) = struct.unpack_from("<I", path.read_bytes(), 8)
        assert golden.name.startswith(f"{version}-")


def test_it_is_sound_to_inspect_and_to_repair(golden: Path, tmp_path: Path) -> None:
    folder = copy_of(golden, tmp_path)
    assert [found for found in inspect_wal(folder) if found.kind == "damage"] == []
    report = repair_wal(folder, clock=SystemClock(), rng=random.Random(1))
    assert not report.repaired
    assert bool(report.torn_bytes) == golden.name.endswith("torn")


@pytest.mark.parametrize("name", MAKERS)
def test_the_present_writer_writes_the_same_bytes(name: str) -> None:
    """When this fails, the format has changed: it needs another version, and goldens of that."""
    golden = {
        path.name: path.read_bytes()
        for folder in GOLDENS
        if folder.name == PRESENT + name
        for path in folder.glob("*.wal")
    }
    written = image_of(make(name))
    assert sorted(written) == sorted(golden)
    for file, data in golden.items():
        assert written[file] == data, f"{file} of {name} is not written as version {VERSION} says"


def test_the_goldens_hold_what_they_are_there_for() -> None:
    """Otherwise that they can be read says little."""
    kinds = {
        path.name.removeprefix(PRESENT): [found.kind for found in inspect_wal(path)]
        for path in GOLDENS
        if path.name.startswith(PRESENT)
    }
    assert kinds["plain"].count("file") == 1
    assert kinds["rotated"].count("file") == kinds["rotated"].count("index") + 1 == 3
    assert kinds["freed"].count("commit") >= 1
    assert "torn" in kinds["torn"]
    assert any(found.details.get("fill") for path in GOLDENS for found in inspect_wal(path)), (
        f"no record has the flag {FILL}"
    )
    for path in GOLDENS:
        marks = json.loads((path / EXPECTED).read_text(encoding="utf-8"))["marks"]
        if path.name == f"{PRESENT}epochs":
            assert max(int(value) for _, value in marks) >> 63 == 1 << 62


# Later versions.


@pytest.mark.parametrize("version", [0, VERSION + 1, 2**32 - 1])
def test_a_log_of_another_version_is_refused_with_that_named(
    golden: Path, tmp_path: Path, version: int
) -> None:
    folder = copy_of(golden, tmp_path)
    newest = max(folder.glob("*.wal"))
    data = newest.read_bytes()
    newest.write_bytes(later_version(data, version) + data[64:])
    before = {path.name: path.read_bytes() for path in folder.glob("*.wal")}
    for attempt in (
        lambda: opened(folder),
        lambda: repair_wal(folder, clock=SystemClock(), rng=random.Random(1)),
    ):
        with pytest.raises(WalCorrupt) as refused:
            attempt()
        assert refused.value.file == newest
        assert refused.value.offset == 8
        assert f"unknown format version {version} (this program reads version 1)" in str(
            refused.value
        )
        assert "use the program that wrote it" in str(refused.value)
    assert {path.name: path.read_bytes() for path in folder.glob("*.wal")} == before


def log_with(*records: tuple[int, int, bytes], snapshot: object = ([], [])) -> MemoryDisk:
    """A log of one file with that snapshot and one batch of records: type, stream, payload."""
    wal_id, size = bytes(range(16)), 32 << 10
    head = FileHead(wal_id, 1, size, 10**9).pack()
    seed = file_seed(wal_id, 1)
    payload = msgpack.packb(snapshot)
    first = encode([Item(SNAPSHOT, 0, 0, [payload], len(payload))], seed, 64, 1, 10**9)
    image = head + b"".join(map(bytes, first.buffers))
    if records:
        items = [Item(kind, stream, 0, [data], len(data)) for kind, stream, data in records]
        batch = encode(items, seed, len(image), 2, 10**9)
        image += b"".join(map(bytes, batch.buffers))
        # Another batch, so that the one before is no unfinished write.
        more = msgpack.packb({"producer": 1})
        last = encode([Item(MARKS, 0, 0, [more], len(more))], seed, len(image), 3, 10**9)
        image += b"".join(map(bytes, last.buffers))
    return disk_with({f"{1:016x}.wal": image.ljust(size, b"\0")})


@pytest.mark.parametrize(
    ("disk", "offset", "what"),
    [
        (log_with(snapshot=([], [], {"later": 1})), 64, "unreadable snapshot"),
        (log_with(snapshot=([[1, "s", 5, 0, b"", "later"]], [])), 64, "unreadable snapshot"),
        (log_with(snapshot=([], [["producer", [1, 2, 3]]])), 64, "unreadable snapshot"),
        (log_with(snapshot={"version": 2}), 64, "unreadable snapshot"),
        (log_with((9, 0, b"later")), 120, "unexpected record type 9"),
        (log_with((MARKS, 0, msgpack.packb({"p": [1, 2, 3]}))), 120, "neither an integer nor"),
        (log_with((MARKS, 0, msgpack.packb([1]))), 120, "not a map"),
        (log_with((DATA, 1, b"of a stream that nobody began")), 120, "unknown stream number 1"),
    ],
)
def test_what_this_version_does_not_have_is_refused_with_the_version_that_is_read(
    disk: MemoryDisk, offset: int, what: str
) -> None:
    before = image_of(disk)
    with pytest.raises(WalCorrupt, match=what) as refused:
        open_wal(disk)
    assert refused.value.offset == offset
    assert "this program reads version 1" in str(refused.value)
    assert image_of(disk) == before


def test_the_builder_of_those_logs_builds_good_ones() -> None:
    wal = open_wal(log_with((MARKS, 0, msgpack.packb({"p": 7}))))
    assert wal.last_mark("p") == 7
    assert crc32c(b"") == 0
