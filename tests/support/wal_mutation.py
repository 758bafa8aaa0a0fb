"""A log with a known content, ways to damage it, and a judge of what is made of each damage.

What must be left is computed from the known records with `support.wal_layout`, not with the code
that is tested.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations

from hf_agent.wal import Wal, WalConfig, WalCorrupt
from hf_agent.wal.repair import RepairReport, repair_wal
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk, PowerLoss
from support.wal_layout import HEAD, HEADER, Known, Record, fold, records_of
from support.wal_tools import disk_with, image_of, open_wal, read_all, sequences, settle

__all__ = ["Damaged", "KnownLog", "judge"]

CONFIG = WalConfig(
    file_bytes=32 << 10,
    max_bytes=256 << 10,
    max_record_bytes=2 << 10,
    max_streams=100,
    max_marks=10,
)
# Smaller than files may be configured, so that every byte and length can be tried in some minutes.
object.__setattr__(CONFIG, "file_bytes", 8 << 10)
MENDED = b"mended:"
_MOST_READS = 2_000
_LARGEST_READ = 64 << 10
_ALL = 1 << 20
_DATA, _INDEX = 1, 6

Image = dict[str, bytes]


class KnownLog:
    """Three files of a log whose first two were freed.

    Binds (notes), marks of producers with epochs and of chunks, streams in one batch, a stream that
    went quiet, and with `torn` an unfinished batch at the end.
    """

    def __init__(self, *, torn: bool) -> None:
        self._disk = MemoryDisk()
        self._wal = open_wal(self._disk, CONFIG)
        self._count = 0
        for file in range(5):
            self._fill(file)
            if file == 1:
                for view in list(self._wal.streams()):
                    self._wal.commit(view.name, view.durable)
        self._last_batches(torn=torn)
        self.image: Image = image_of(self._disk)
        self.files = sorted(self.image)
        assert self.files == [f"{number:016x}.wal" for number in (3, 4, 5)]
        everything = [each for name in self.files for each in records_of(name, self.image[name])]
        indexes = {each.batch for each in everything if each.type == _INDEX}
        ended = {each.batch for each in everything if each.flags & 1}
        self.acknowledged = [each for each in everything if each.batch in ended - indexes]
        self.indexes = [each for each in everything if each.type == _INDEX]
        self.torn = [each for each in everything if each.batch not in ended]
        assert bool(self.torn) == torn
        last = max(each.batch for each in self.acknowledged)
        self.last_batch = [each for each in self.acknowledged if each.batch == last]
        self.before_last = [each for each in self.acknowledged if each.batch != last]
        self.whole = fold(self.acknowledged)
        self.less = fold(self.before_last)

    def _append(self, *streams: str) -> None:
        self._count += 1
        number = self._count
        for stream in streams:
            self._wal.append(
                stream,
                f"{stream} {number}, ".encode() * (1 + number % 4),
                marks=[
                    (f"producer of {stream}", (number // 3) << 63 | number),
                    (b"chunk %10d" % (number % 2), number << 32 | 1),
                ],
            )
        settle(self._wal)

    def _fill(self, file: int) -> None:
        wal = self._wal
        self._append("one", "two")
        if file % 2 == 0:
            wal.note("one", b"bind of one in file %d" % file)
        if file == 2:
            self._append("quiet")
            wal.note("quiet", b"bind of quiet")
        settle(wal)
        before = sequences(wal)[-1]
        while file < 4 and sequences(wal)[-1] == before:
            wal.append("filler", bytes([self._count, *range(250)]) * 7)
            settle(wal)

    def _last_batches(self, *, torn: bool) -> None:
        wal, disk = self._wal, self._disk
        self._append("one", "new")
        wal.note("new", b"bind of new")
        self._append("one", "two")
        if not torn:
            return
        wal.append("one", b"never acknowledged, ")
        wal.append("two", b"nor this, of which half is there, " * 20)
        disk.dies_at = disk.operations + 1
        try:
            settle(wal)
        except PowerLoss:
            disk.process_death()

    # -- damages ---------------------------------------------------------------------------

    def flipped(self, file: str, at: int, mask: int) -> Damaged:
        """One byte changed."""
        data = bytearray(self.image[file])
        data[at] ^= mask

        def is_hit(each: Record) -> bool:
            return each.file == file and each.offset <= at < each.end

        hit = [each for each in (*self.acknowledged, *self.torn) if is_hit(each)]
        return Damaged(
            f"{file}:{at} ^ {mask:#04x}",
            {**self.image, file: bytes(data)},
            intact=[each for each in self.acknowledged if each not in hit],
            headers=[each for each in hit if at >= each.offset + HEADER],
        )

    def truncated(self, file: str, length: int) -> Damaged:
        """A file cut short."""

        def is_left(each: Record) -> bool:
            return each.file != file or each.end <= length

        newest = file == self.files[-1]
        return Damaged(
            f"{file} cut to {length}",
            {**self.image, file: self.image[file][:length]},
            intact=[each for each in self.acknowledged if is_left(each)],
            torn_too=[each for each in self.torn if is_left(each)] if newest else [],
        )

    def rearranged(self) -> Iterator[Damaged]:
        """Every pair of files swapped, each copied over each and under the next name, each gone."""
        following = f"{int(self.files[-1][:16], 16) + 1:016x}.wal"
        for one, other in permutations(self.files, 2):
            if one < other:
                image = {**self.image, one: self.image[other], other: self.image[one]}
                yield Damaged(f"{one} and {other} swapped", image, intact=self.acknowledged)
            copied = {**self.image, other: self.image[one]}
            yield Damaged(f"{one} over {other}", copied, intact=self._without(other))
        for file in self.files:
            for name in (following, f"{file[:16]} (copy).wal"):
                doubled = {**self.image, name: self.image[file]}
                yield Damaged(f"{file} copied to {name}", doubled, intact=self.acknowledged)
            image = {name: data for name, data in self.image.items() if name != file}
            yield Damaged(f"{file} removed", image, intact=self._without(file))

    def _without(self, file: str) -> list[Record]:
        return [each for each in self.acknowledged if each.file != file]

    def structure(self) -> list[tuple[str, int]]:
        """Every byte of heads, record headers, indexes and footers: file and offset."""
        places = []
        for name, data in self.image.items():
            places += [(name, at) for at in range(HEAD)]
            if name != self.files[-1]:
                places += [(name, at) for at in range(len(data) - 64, len(data))]
        for each in (*self.acknowledged, *self.torn):
            places += [(each.file, each.offset + at) for at in range(HEADER)]
        for each in self.indexes:
            places += [(each.file, at) for at in range(each.offset, each.end)]
        return places

    def borders(self) -> list[tuple[str, int]]:
        """Lengths at and beside the borders of all that a file consists of."""
        places = set()
        for name, data in self.image.items():
            ends = {0, HEAD, len(data) - 64, len(data)}
            for each in (*self.acknowledged, *self.torn, *self.indexes):
                if each.file == name:
                    ends |= {each.offset, each.offset + HEADER, each.end}
            places |= {(name, end + by) for end in ends for by in (-9, -1, 0, 1, 8)}
        return [(name, at) for name, at in sorted(places) if 0 <= at < len(self.image[name])]


@dataclass(slots=True)
class Damaged:
    """A log after one damage, and what of it is intact."""

    name: str
    image: Image
    intact: list[Record]
    """Acknowledged records of which every byte is left."""
    headers: Iterable[Record] = ()
    """Records of which the header alone is left."""
    torn_too: Iterable[Record] = ()
    """Intact records of the unfinished batch, where nothing tells any more that it is one."""


def judge(log: KnownLog, damaged: Damaged, *, thorough: bool = True) -> str:
    """Open the log, repair it, open it again; raises `AssertionError` at the first wrong thing.

    `thorough` goes on with the log after each opening, and repairs it a second time. Returns what
    the first opening was: `exact`, `cut` (of the last batch), `refused`, `refused when read`.
    """
    try:
        opening = _judge_opening(log, damaged, thorough)
        _judge_repair(log, damaged, opening, thorough)
    except Exception as error:
        error.add_note(f"damage: {damaged.name}")
        raise
    return opening


def _judge_opening(log: KnownLog, damaged: Damaged, thorough: bool) -> str:
    disk = disk_with(damaged.image)
    try:
        wal = open_wal(disk, CONFIG)
    except WalCorrupt as refusal:
        _check_place(refusal, damaged.image)
        assert image_of(disk) == damaged.image, "a refused log was changed"
        return "refused"
    finally:
        _check_reads(disk)
    outcome = "exact"
    try:
        if not _is(wal, log.whole):
            assert _may_be_cut(log, damaged), "not what was acknowledged"
            assert _is(wal, log.less), "neither all that was acknowledged nor all but the last"
            outcome = "cut"
    except WalCorrupt as refusal:
        _check_place(refusal, damaged.image)
        return "refused when read"
    if thorough:
        _check_goes_on(disk, wal)
    return outcome


def _judge_repair(log: KnownLog, damaged: Damaged, opening: str, thorough: bool) -> None:
    disk = disk_with(damaged.image)
    report = _repair(disk)
    _check_reads(disk)
    if not report.repaired:
        assert opening in ("exact", "cut"), "nothing was repaired in a log that is refused"
        assert image_of(disk) == damaged.image, "a log that was not repaired was changed"
        return
    assert report.damages
    assert {each.file for each in report.damages} <= set(damaged.image)
    wal = open_wal(disk, CONFIG)
    headers = frozenset(damaged.headers) - frozenset(log.torn)
    choices = [fold(_in_order(damaged.intact, headers), headers)]
    if damaged.torn_too:
        choices.append(fold(_in_order(damaged.intact, headers | set(damaged.torn_too)), headers))
    wrong = [_difference(wal, known, damaged) for known in choices]
    assert "" in wrong, wrong[0]
    if thorough:
        assert not _repair(disk_with(image_of(disk))).repaired, "a second repair found something"
        _check_goes_on(disk, wal)


def _repair(disk: MemoryDisk) -> RepairReport:
    return repair_wal(
        disk.root,
        disk=disk,
        clock=ManualClock(),
        rng=random.Random(1),
        mend=lambda note, end, most: MENDED + note,
    )


def _in_order(records: Iterable[Record], more: Iterable[Record]) -> list[Record]:
    return sorted({*records, *more}, key=lambda each: (each.file, each.offset))


def _may_be_cut(log: KnownLog, damaged: Damaged) -> bool:
    """Whether the last batch was hit, and nothing behind it proves that it was durable."""
    return not log.torn and any(each not in damaged.intact for each in log.last_batch)


def _is(wal: Wal, known: Known) -> bool:
    """Whether the log holds exactly that. Raises `WalCorrupt` when it cannot be read."""
    views = {view.name: view for view in wal.streams()}
    if sorted(views) != sorted(known.names.values()):
        return False
    for number, name in known.names.items():
        view = views[name]
        assert view.first <= max(view.committed, known.committed.get(number, 0))
        if read_all(wal, name, _ALL) != known.content(number, view.first):
            return False
        if view.note != known.notes.get(number, b""):
            return False
    return all(wal.last_mark(key) == value for key, value in known.marks.items())


def _difference(wal: Wal, known: Known, damaged: Damaged) -> str:
    """What of the repaired log is not as it should be; empty when everything is."""
    views = {view.name: view for view in wal.streams()}
    for number in sorted(known.end.keys() | known.notes.keys() | known.committed.keys()):
        committed = known.committed.get(number, 0)
        name = known.names.get(number)
        expected = known.content(number, committed)
        if name is None:
            name = f"recovered/stream-{number}"
            expected = known.pieces(number, committed)
        view = views.pop(name, None)
        if view is None:
            return f"stream {name} is not there"
        if (got := read_all(wal, name, _ALL)) != expected:
            return f"stream {name} has {len(got)} bytes, not the right {len(expected)}"
        note = known.notes.get(number, b"")
        if number in known.names and view.note.removeprefix(MENDED) != note:
            return f"the note of {name} is {view.note!r} and should be {note!r}"
    if views:
        return f"streams {sorted(views)} are not known"
    for key, value in known.marks.items():
        if wal.last_mark(key) != value:
            return f"mark {key!r} is {wal.last_mark(key):#x} and should be {value:#x}"
    return ""


def _check_place(refusal: WalCorrupt, image: Image) -> None:
    assert refusal.file.name in image, refusal
    assert 0 <= refusal.offset <= max(map(len, image.values())), refusal
    assert refusal.file.name in str(refusal)
    assert f"offset={refusal.offset}" in str(refusal)


def _check_reads(disk: MemoryDisk) -> None:
    """No endless search, and nothing larger is read at once than a file of the repaired log."""
    assert disk.reads < _MOST_READS
    assert disk.largest_read <= _LARGEST_READ


def _check_goes_on(disk: MemoryDisk, wal: Wal) -> None:
    """The log takes appends, and has them when it is opened again."""
    before = {view.name: read_all(wal, view.name, _ALL) for view in wal.streams()}
    wal.append("later", b"appended later")
    settle(wal)
    wal.close()
    again = open_wal(disk, CONFIG)
    assert {view.name: read_all(again, view.name, _ALL) for view in again.streams()} == {
        **before,
        "later": b"appended later",
    }
    again.close()
