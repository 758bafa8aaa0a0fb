"""`wal repair`: all that is provable is kept, the rest is set aside, and a crash loses neither."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hf_agent.wal import Wal, WalCorrupt, WalError, WalLocked, WalUnusable
from hf_agent.wal.file_head import REPAIR_MARKER
from hf_agent.wal.inspect import inspect_wal
from hf_agent.wal.repair import RepairReport, repair_wal
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk, PowerLoss
from support.wal_tools import (
    disk_with,
    fill_file,
    image_of,
    later_version,
    open_wal,
    read_all,
    settle,
)

FIRST, SECOND, THIRD = (f"{number:016x}.wal" for number in (1, 2, 3))
STREAMS = ("one", "two", "filler")


def repaired(disk: MemoryDisk, *, dry_run: bool = False) -> RepairReport:
    return repair_wal(
        disk.root,
        disk=disk,
        clock=ManualClock(),
        rng=random.Random(1),
        mend=lambda note, end, most: b"mended: %s, %d, %d" % (note, end, most),
        dry_run=dry_run,
    )


class Written:
    """A log of three files: `filler` in the first two, `one` and `two` by turns everywhere."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        wal = open_wal(self.disk)
        self.appends: dict[str, list[bytes]] = {name: [] for name in STREAMS}
        for file in range(3):
            for number in range(3):
                for name in ("one", "two"):
                    self.append(wal, name, f"{name} {file}.{number}, ".encode() * 9)
            wal.note("one", b"note %d" % file)
            settle(wal)
            if file < 2:
                data = fill_file(wal)
                self.appends["filler"] += [data[at : at + 4096] for at in range(0, len(data), 4096)]
        self.wal_id = wal.id
        self.image = image_of(self.disk)
        self.records = [
            finding
            for finding in inspect_wal(self.disk.root, disk=self.disk)
            if finding.kind in ("data", "note", "marks", "stream", "snapshot", "index")
        ]

    def append(self, wal: Wal, name: str, data: bytes) -> None:
        self.appends[name].append(data)
        wal.append(name, data, marks=[(f"producer of {name}", len(self.appends[name]))])
        settle(wal)

    def content(
        self, name: str, without: tuple[int, ...] = (), zeros: tuple[int, ...] = ()
    ) -> bytes:
        """What was appended, but for some appends, and with zeros for others."""
        return b"".join(
            bytes(len(data)) if at in zeros else data
            for at, data in enumerate(self.appends[name])
            if at not in without
        )

    def place(self, name: str, number: int) -> tuple[str, int, int]:
        """File, offset and payload bytes of the record of a stream's append."""
        finding = [
            each for each in self.records if each.kind == "data" and each.details["stream"] == name
        ][number]
        return finding.file.name, finding.offset, finding.details["length"]

    def flipped(self, *places: tuple[str, int]) -> MemoryDisk:
        image = {name: bytearray(data) for name, data in self.image.items()}
        for name, offset in places:
            image[name][offset] ^= 0xFF
        return disk_with({name: bytes(data) for name, data in image.items()})

    def without(self, name: str) -> MemoryDisk:
        return disk_with({each: data for each, data in self.image.items() if each != name})


@pytest.fixture(scope="module")
def written() -> Written:
    return Written()


def opened(disk: MemoryDisk) -> Wal:
    return open_wal(disk)


def contents(wal: Wal) -> dict[str, bytes]:
    return {view.name: read_all(wal, view.name) for view in wal.streams()}


def test_a_sound_log_is_left_as_it_is(written: Written) -> None:
    disk = disk_with(written.image)
    report = repaired(disk)
    assert not report.repaired
    assert not report.damages
    assert image_of(disk) == written.image
    assert not disk.folders


def test_zeros_stand_for_a_damaged_payload_and_nothing_else_is_lost(written: Written) -> None:
    file, offset, length = written.place("one", 4)
    disk = written.flipped((file, offset + 48 + 3))
    report = repaired(disk)
    assert [(each.file, each.offset) for each in report.damages] == [(file, offset)]
    start = len(b"".join(written.appends["one"][:4]))
    (loss,) = report.losses
    assert (loss.stream, loss.gaps, loss.end_unknown) == ("one", ((start, start + length),), False)
    wal = opened(disk)
    assert wal.id == written.wal_id
    assert contents(wal) == {
        "one": written.content("one", zeros=(4,)),
        "two": written.content("two"),
        "filler": written.content("filler"),
    }
    assert wal.last_mark("producer of two") == len(written.appends["two"])
    assert not report.marks_incomplete


def test_all_streams_keep_positions_and_binds_where_it_is_known_how_much_is_lost(
    written: Written,
) -> None:
    file, offset, _ = written.place("one", 4)
    disk = written.flipped((file, offset + 48))
    (loss,) = repaired(disk).losses
    assert not loss.rebound
    wal = opened(disk)
    for name in STREAMS:
        view = wal.stream(name)
        assert view is not None
        assert view.position == len(written.content(name))
        assert view.note == (b"note 2" if name == "one" else b"")


def test_a_stream_whose_bind_is_lost_is_left_to_its_container(written: Written) -> None:
    note = [each for each in written.records if each.kind == "note"][-1]
    wal = opened(other := disk_with(written.image))
    wal.append("two", b"so that the note is not in the last batch")
    settle(wal)
    disk = disk_with(image_of(other))
    disk.names[note.file.name].data[note.offset + 48] ^= 1
    (loss,) = repaired(disk).losses
    assert (loss.stream, loss.gaps, loss.bind_lost, loss.rebound) == ("one", (), True, False)
    view = opened(disk).stream("one")
    assert view is not None
    assert view.note == b"mended: note 1, %d, %d" % (view.durable, view.durable)


def test_a_damaged_header_costs_its_append_alone(written: Written) -> None:
    file, offset, _ = written.place("one", 7)
    disk = written.flipped((file, offset + 10))
    report = repaired(disk)
    (damage,) = report.damages
    assert (damage.file, damage.offset) == (file, offset)
    wal = opened(disk)
    assert contents(wal)["one"] == written.content("one", zeros=(7,))
    assert contents(wal)["two"] == written.content("two")


def test_what_stands_behind_the_damage_of_a_sealed_file_is_proven_by_the_next_snapshot(
    written: Written,
) -> None:
    file, offset, _ = written.place("two", 1)
    disk = written.flipped((file, offset + 20))
    report = repaired(disk)
    assert [loss.stream for loss in report.losses] == ["two"]
    assert not report.losses[0].end_unknown


def test_where_the_last_provable_record_is_unclear_the_report_says_so(written: Written) -> None:
    file, offset, _ = written.place("one", 8)
    disk = written.flipped((file, offset + 5))
    report = repaired(disk)
    losses = {loss.stream: loss for loss in report.losses}
    assert losses["one"].end_unknown
    assert losses["filler"].end_unknown
    assert "two" not in losses  # it went on behind the place, without a gap
    assert report.marks_incomplete


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_a_damaged_head_costs_nothing(written: Written, name: str) -> None:
    disk = written.flipped((name, 20))
    report = repaired(disk)
    assert [(each.file, each.offset) for each in report.damages] == [(name, 0)]
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


def test_a_missing_file_is_named_and_what_is_around_it_is_kept(written: Written) -> None:
    disk = written.without(SECOND)
    report = repaired(disk)
    assert "missing" in report.damages[0].reason
    wal = opened(disk)
    assert read_all(wal, "one") == written.content("one", zeros=(3, 4, 5))
    assert read_all(wal, "two") == written.content("two", zeros=(3, 4, 5))


def test_a_missing_oldest_file_is_named_though_no_name_tells_of_it(written: Written) -> None:
    disk = written.without(FIRST)
    with pytest.raises(WalCorrupt, match="a file before this one is missing"):
        opened(disk)
    report = repaired(disk)
    assert [(each.file, each.reason) for each in report.damages] == [
        (SECOND, "a file before this one is missing")
    ]
    assert read_all(opened(disk), "one") == written.content("one", zeros=(0, 1, 2))


def test_a_file_that_was_cut_short_gives_up_to_its_end(written: Written) -> None:
    file, offset, _ = written.place("filler", 3)
    image = dict(written.image)
    image[file] = image[file][:offset]
    disk = disk_with(image)
    with pytest.raises(WalCorrupt):
        opened(disk)
    repaired(disk)
    wal = opened(disk)
    first = [
        at
        for at in range(len(written.appends["filler"]))
        if written.place("filler", at)[0] == FIRST
    ]
    assert read_all(wal, "filler") == written.content("filler", zeros=tuple(first[3:]))
    assert read_all(wal, "one") == written.content("one")


def test_a_file_that_was_cut_in_its_free_space_costs_nothing(written: Written) -> None:
    image = dict(written.image)
    image[THIRD] = image[THIRD][:-1000]
    disk = disk_with(image)
    report = repaired(disk)
    assert [(each.file, each.reason) for each in report.damages] == [
        (THIRD, "the file has 31768 of its 32768 bytes")
    ]
    assert not report.losses
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


def test_a_file_that_grew_costs_nothing(written: Written) -> None:
    disk = disk_with({**written.image, SECOND: written.image[SECOND] + b"more"})
    with pytest.raises(WalCorrupt, match="the file has 32772 bytes"):
        opened(disk)
    assert not repaired(disk).losses
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


@pytest.mark.parametrize("pair", [(FIRST, SECOND), (SECOND, THIRD), (FIRST, THIRD)])
def test_files_that_were_swapped_are_read_as_what_their_heads_say(
    written: Written, pair: tuple[str, str]
) -> None:
    one, other = pair
    disk = disk_with({**written.image, one: written.image[other], other: written.image[one]})
    with pytest.raises(WalCorrupt, match="this is a copy of the file"):
        opened(disk)
    report = repaired(disk)
    assert sorted(each.file for each in report.damages) == sorted(pair)
    assert not report.losses
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


def test_a_copy_of_the_newest_file_under_the_next_name_costs_nothing(written: Written) -> None:
    disk = disk_with({**written.image, f"{4:016x}.wal": written.image[THIRD]})
    report = repaired(disk)
    assert [each.reason for each in report.damages] == ["a copy of the file with sequence 3"]
    assert not report.losses
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


def test_a_missing_newest_file_is_said_to_have_held_up_to_all_it_could(written: Written) -> None:
    disk = written.without(THIRD)
    report = repaired(disk)
    assert "the next one is missing" in report.damages[0].reason
    assert {loss.stream for loss in report.losses} == set(STREAMS)
    assert {loss.end_unknown for loss in report.losses} == {32 << 10}
    assert read_all(opened(disk), "one") == written.content("one", without=(6, 7, 8))


@pytest.mark.parametrize("where", ["entries", "footer"])
def test_a_damaged_index_costs_nothing_and_can_be_read_afterwards(
    written: Written, where: str
) -> None:
    index = next(each for each in written.records if each.kind == "index")
    at = len(written.image[FIRST]) - 30
    if where == "entries":
        at = index.offset + 48 + index.details["length"] - 1
    disk = written.flipped((FIRST, at))
    report = repaired(disk)
    assert report.repaired
    assert len(report.damages) == 1
    assert not report.losses
    assert contents(opened(disk)) == {name: written.content(name) for name in STREAMS}


def test_marks_of_epochs_are_kept_from_records_and_snapshots() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    marks: dict[str | bytes, int] = {"p": 5 << 63 | 7, b"chunk": 9 << 32 | 3, "q": 1 << 63}
    wal.append("one", b"in the first file", marks=[("p", marks["p"]), (b"chunk", marks[b"chunk"])])
    settle(wal)
    fill_file(wal)
    wal.append("one", b"in the second", marks=[("q", marks["q"])])
    settle(wal)
    wal.append("one", b"lost")
    settle(wal)
    wal.append("one", b"last")
    settle(wal)
    disk = disk_with(image_of(disk))
    lost = [f for f in inspect_wal(disk.root, disk=disk) if f.kind == "data"][-2]
    disk.names[SECOND].data[lost.offset + 48] ^= 1
    repaired(disk)
    wal = opened(disk)
    assert {key: wal.last_mark(key) for key in marks} == marks
    assert read_all(wal, "one") == b"in the first filein the second\0\0\0\0last"


def test_a_plan_begins_inside_zeros_of_a_repair_and_nowhere_else_inside_a_record(
    written: Written,
) -> None:
    file, offset, length = written.place("one", 4)
    disk = written.flipped((file, offset + 48))
    repaired(disk)
    wal = opened(disk)
    content = written.content("one", zeros=(4,))
    start = content.index(0)
    for at in range(start, start + length):
        plan = wal.plan("one", at, 100)
        buffer = bytearray(plan.nbytes)
        wal.read_into(plan, memoryview(buffer))
        assert (plan.start, bytes(buffer)) == (at, content[at : plan.end])
    for at in (start - 1, start + length + 1):
        with pytest.raises(WalError, match="no record begins there"):
            wal.plan("one", at, 100)
    fill_file(wal)  # the same from the index of a sealed file
    plan = wal.plan("one", start + 5, 1000)
    buffer = bytearray(plan.nbytes)
    wal.read_into(plan, memoryview(buffer))
    assert bytes(buffer) == content[start + 5 : plan.end]
    with pytest.raises(WalError, match="no record begins there"):
        wal.plan("one", start - 1, 100)


def test_a_file_of_another_log_and_one_with_a_strange_name_are_set_aside(written: Written) -> None:
    other = MemoryDisk()
    fill_file(open_wal(other, seed=9))
    disk = disk_with(
        {**written.image, SECOND: image_of(other)[FIRST], "copy of a.wal": b"anything"}
    )
    report = repaired(disk)
    assert any("another write-ahead log" in damage.reason for damage in report.damages)
    assert report.copy is not None
    assert disk.names[f"{report.copy.name}/copy of a.wal"].data == b"anything"
    assert read_all(opened(disk), "two") == written.content("two", zeros=(3, 4, 5))


def test_a_stream_whose_name_is_lost_is_kept_under_its_number() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("lost", b"content of it")
    settle(wal)
    wal.append("other", b"more")
    settle(wal)
    name = next(f for f in inspect_wal(disk.root, disk=disk) if f.kind == "stream")
    damaged = disk_with(image_of(disk))
    damaged.names[FIRST].data[name.offset + 48] ^= 1
    report = repaired(damaged)
    assert {loss.stream for loss in report.losses} == {"recovered/stream-1"}
    assert read_all(opened(damaged), "recovered/stream-1") == b"content of it"


def test_what_the_store_has_is_no_loss(written: Written) -> None:
    disk = disk_with(written.image)
    wal = opened(disk)
    for name in STREAMS:
        view = wal.stream(name)
        assert view is not None
        wal.commit(name, view.durable)
    wal.append("two", b"later")
    settle(wal)
    wal.close()
    image = image_of(disk)
    name = max(image)
    place = next(
        f for f in inspect_wal(disk.root, disk=disk) if f.kind == "data" and f.file.name == name
    )
    damaged = disk_with(image)
    damaged.names[name].data[place.offset + 50] ^= 1
    report = repaired(damaged)
    assert report.damages
    # Whether a COMMIT had been written by then decides it: positions below are the store's.
    after = opened(damaged)
    for loss in report.losses:
        view = after.stream(loss.stream)
        assert view is not None
        assert all(start >= view.committed for start, _ in loss.gaps)


def test_the_damaged_files_and_the_report_are_kept(written: Written) -> None:
    file, offset, _ = written.place("one", 4)
    disk = written.flipped((file, offset + 50))
    before = image_of(disk)
    report = repaired(disk)
    assert report.copy is not None
    for name, data in before.items():
        assert bytes(disk.names[f"{report.copy.name}/{name}"].data) == data
    told = json.loads(bytes(disk.names[f"{report.copy.name}/report.json"].data))
    assert told["losses"][0]["stream"] == "one"
    assert told["damages"][0]["offset"] == offset


def test_a_second_repair_finds_nothing(written: Written) -> None:
    file, offset, _ = written.place("one", 4)
    disk = written.flipped((file, offset + 50))
    assert repaired(disk).repaired
    image = image_of(disk)
    assert not repaired(disk).repaired
    assert image_of(disk) == image


def test_a_dry_run_tells_the_same_and_changes_nothing(written: Written) -> None:
    file, offset, _ = written.place("one", 4)
    disk = written.flipped((file, offset + 50))
    before = image_of(disk)
    dry = repaired(disk, dry_run=True)
    assert image_of(disk) == before
    assert not disk.folders
    real = repaired(disk)
    assert dry.losses == real.losses
    assert [(each.file, each.offset, each.bytes) for each in dry.damages] == [
        (each.file, each.offset, each.bytes) for each in real.damages
    ]


def test_a_log_of_a_later_version_is_not_touched(written: Written) -> None:
    disk = disk_with(written.image)
    disk.names[THIRD].data[:64] = later_version(written.image[THIRD])
    with pytest.raises(WalCorrupt, match="unknown format version 2"):
        repaired(disk)


def test_where_no_head_is_readable_nothing_can_be_proven() -> None:
    disk = disk_with({FIRST: bytes(64 << 10)})
    with pytest.raises(WalCorrupt, match="bad magic"):
        repaired(disk)


def test_an_empty_or_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WalUnusable, match="no such directory"):
        repair_wal(tmp_path / "none", clock=ManualClock(), rng=random.Random(1))
    with pytest.raises(WalCorrupt, match="no file of a write-ahead log"):
        repair_wal(tmp_path, clock=ManualClock(), rng=random.Random(1))


def test_a_log_in_use_is_not_repaired(written: Written) -> None:
    disk = disk_with(written.image)
    wal = opened(disk)
    with pytest.raises(WalLocked):
        repaired(disk)
    wal.close()


def test_an_unfinished_batch_at_the_end_is_no_damage_and_is_left_to_the_next_start(
    written: Written,
) -> None:
    file, offset, _ = written.place("two", 8)
    disk = written.flipped((file, offset + 50))  # of the last batch but the note's
    report = repaired(disk)
    assert report.repaired  # the note's batch behind it proves that it was durable
    last = max(
        (each for each in written.records if each.file.name == THIRD), key=lambda each: each.offset
    )
    torn = written.flipped((THIRD, last.offset + 48))
    assert not repaired(torn).repaired
    assert read_all(opened(torn), "one") == written.content("one")


def test_power_loss_at_any_moment_leaves_the_old_log_or_the_new_one(written: Written) -> None:
    file, offset, _ = written.place("one", 4)
    damaged = written.flipped((file, offset + 50))
    before = image_of(damaged)
    expected = {
        "one": written.content("one", zeros=(4,)),
        "two": written.content("two"),
        "filler": written.content("filler"),
    }
    whole = disk_with(before)
    repaired(whole)
    for at in range(1, whole.operations + 1):
        for seed in range(2):
            disk = disk_with(before)
            disk.dies_at = at
            with pytest.raises(PowerLoss):
                repaired(disk)
            disk.power_loss(random.Random(1000 * at + seed))
            files = image_of(disk)
            if REPAIR_MARKER in files:
                with pytest.raises(WalCorrupt, match="let `hf-agent wal repair` finish it"):
                    opened(disk)
            elif set(before) & set(files):
                assert files == before, (at, seed)
            repaired(disk)
            assert contents(opened(disk)) == expected, (at, seed)
