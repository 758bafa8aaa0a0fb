"""Every kind of damage: a torn tail is cut, anything else is refused with file and offset."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from crc32c import crc32c

from hf_agent.wal import Wal, WalCorrupt
from hf_agent.wal.inspect import inspect_wal
from hf_agent.wal.record import (
    CHECKED,
    HEADER_BYTES,
    MAGIC,
    PLACED_HEADER,
    file_seed,
    unpack_header,
)
from support.wal_disk import MemoryDisk
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
RECORDS = 64 + 48 + 8  # where the first batch of the first file begins


class Written:
    """A log of two files, and where its records are."""

    def __init__(self) -> None:
        self.disk = MemoryDisk()
        wal = open_wal(self.disk)
        self.filler = fill_file(wal)
        self.lines = []
        for number in range(4):
            line = b"line %d, " % number * 20
            self.lines.append(line)
            wal.append("log", line, marks=[("producer", number + 1)])
            settle(wal)
        self.image = image_of(self.disk)
        findings = list(inspect_wal(self.disk.root, disk=self.disk))
        self.data = [
            finding.offset
            for finding in findings
            if finding.kind == "data" and finding.file.name == SECOND
        ]
        self.filler_data = [
            finding.offset
            for finding in findings
            if finding.kind == "data" and finding.file.name == FIRST
        ]
        self.ends = {
            finding.file.name: finding.offset for finding in findings if finding.kind == "end"
        }

    def changed(self, name: str, offset: int, data: bytes) -> MemoryDisk:
        image = dict(self.image)
        image[name] = image[name][:offset] + data + image[name][offset + len(data) :]
        return disk_with(image)

    def flipped(self, name: str, offset: int, mask: int = 0xFF) -> MemoryDisk:
        return self.changed(name, offset, bytes([self.image[name][offset] ^ mask]))

    def without_last_batch(self, wal: Wal) -> bool:
        return read_all(wal, "log") == b"".join(self.lines[:-1]) and wal.last_mark("producer") == 3

    def whole(self, wal: Wal, *streams: str) -> bool:
        contents = {"log": b"".join(self.lines), "filler": self.filler}
        return wal.last_mark("producer") == 4 and all(
            read_all(wal, name) == contents[name] for name in streams or contents
        )


@pytest.fixture(scope="module")
def written() -> Written:
    return Written()


def refused(disk: MemoryDisk, name: str, offset: int, reason: str) -> None:
    before = image_of(disk)
    for _ in range(2):  # the second time too: nothing was changed by the first
        with pytest.raises(WalCorrupt, match=reason) as caught:
            open_wal(disk)
        assert (caught.value.file.name, caught.value.offset) == (name, offset)
        assert str(offset) in str(caught.value)
        assert name in str(caught.value)
    assert image_of(disk) == before


def index_bytes(written: Written) -> int:
    """Bytes of the INDEX record of the first file."""
    (index,) = (
        found
        for found in inspect_wal(written.disk.root, disk=written.disk)
        if found.kind == "index"
    )
    return written.ends[FIRST] - index.offset


# Heads.


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_bad_magic_is_refused(written: Written, name: str) -> None:
    refused(written.flipped(name, 3), name, 0, "bad magic")


def test_an_unknown_version_is_refused_by_its_number(written: Written) -> None:
    reason = "unknown format version 2 .*reads version 1.*drain the log before going back"
    refused(written.changed(SECOND, 0, later_version(written.image[SECOND])), SECOND, 8, reason)


@pytest.mark.parametrize("at", range(8, 12))
def test_a_damaged_version_is_damage_and_not_a_version(written: Written, at: int) -> None:
    refused(written.flipped(SECOND, at), SECOND, 60, "checksum mismatch in the file's head")


def test_a_damaged_head_is_refused(written: Written) -> None:
    refused(written.flipped(SECOND, 50), SECOND, 60, "checksum mismatch in the file's head")


@pytest.mark.parametrize("length", [0, 1, 63])
def test_a_partial_head_is_refused(written: Written, length: int) -> None:
    image = dict(written.image)
    image[SECOND] = image[SECOND][:length]
    refused(disk_with(image), SECOND, length, "ends within its head")


def test_a_file_of_another_log_is_refused(written: Written) -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, seed=2)
    fill_file(wal)
    foreign = image_of(disk)[SECOND]
    grown = disk_with(written.image)
    fill_file(open_wal(grown))
    image = image_of(grown)
    assert sorted(image) == [FIRST, SECOND, THIRD]
    image[SECOND] = foreign
    refused(disk_with(image), SECOND, 16, "belongs to another write-ahead log")


def test_a_doubled_file_is_refused(written: Written) -> None:
    image = {**written.image, THIRD: written.image[SECOND]}
    refused(disk_with(image), THIRD, 32, "copy of the file with sequence 2")


def test_a_copy_under_a_strange_name_is_refused(written: Written) -> None:
    name = "0000000000000002 (copy).wal"
    image = {**written.image, name: written.image[SECOND]}
    refused(disk_with(image), name, 0, "not of this log; move it elsewhere")


def test_a_missing_middle_file_is_refused() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    fill_file(wal)
    fill_file(wal)
    image = image_of(disk)
    del image[SECOND]
    refused(disk_with(image), THIRD, 0, "the file before this one is missing, sequence 2")


def test_a_missing_oldest_file_is_refused() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    appended = fill_file(wal)
    image = image_of(disk)
    del image[FIRST]
    gap = len(appended) - 4096
    refused(disk_with(image), SECOND, 0, f"bytes 0 to {gap} of stream 'filler' are missing")


def test_a_missing_newest_file_is_refused_for_the_one_before_was_sealed(written: Written) -> None:
    disk = disk_with({FIRST: written.image[FIRST]})
    refused(disk, FIRST, written.ends[FIRST] - index_bytes(written), "next one is missing")


def test_a_spare_that_is_no_successor_does_not_hide_a_missing_file(written: Written) -> None:
    for spare in (bytes(32 << 10), b"", written.image[FIRST]):
        disk = disk_with({FIRST: written.image[FIRST], "spare.tmp": spare})
        refused(disk, FIRST, written.ends[FIRST] - index_bytes(written), "next one is missing")


def test_a_file_that_was_sealed_before_a_crash_is_gone_on_with(written: Written) -> None:
    fresh = MemoryDisk()
    fill_file(open_wal(fresh))  # up to here both logs are the same
    disk = disk_with({FIRST: written.image[FIRST], "spare.tmp": image_of(fresh)[SECOND]})
    wal = open_wal(disk)
    assert read_all(wal, "filler") == written.filler[: len(read_all(wal, "filler"))]
    wal.append("log", b"goes on")
    settle(wal)
    wal.close()
    assert read_all(open_wal(disk_with(image_of(disk))), "log") == b"goes on"


# Records of the newest file.


def test_a_checksum_mismatch_in_the_middle_is_refused(written: Written) -> None:
    at = written.data[2]
    refused(written.flipped(SECOND, at + HEADER_BYTES + 5), SECOND, at, "bad record in batch")


def test_a_damaged_header_in_the_middle_is_refused(written: Written) -> None:
    at = written.data[2]
    refused(written.flipped(SECOND, at + 12), SECOND, at, "bad record in batch")


def test_a_record_of_zero_length_is_refused_where_batches_follow(written: Written) -> None:
    at = written.data[2]
    refused(written.changed(SECOND, at, bytes(HEADER_BYTES)), SECOND, at, "bad record in batch")


def test_a_zeroed_sector_in_the_middle_is_refused(written: Written) -> None:
    start = written.data[1] // 512 * 512
    disk = written.changed(SECOND, start, bytes(512))
    with pytest.raises(WalCorrupt) as caught:
        open_wal(disk)
    assert caught.value.file.name == SECOND


def test_a_damaged_snapshot_is_refused(written: Written) -> None:
    refused(written.flipped(SECOND, 64 + HEADER_BYTES + 3), SECOND, 64, "mismatch in the snapshot")


def test_a_checksum_mismatch_in_the_last_batch_is_cut_as_an_unfinished_write(
    written: Written,
) -> None:
    at = written.data[-1]
    disk = written.flipped(SECOND, at + HEADER_BYTES + 5)
    wal = open_wal(disk)
    assert written.without_last_batch(wal)
    torn = wal.recovery.torn
    assert torn is not None
    assert torn[:2] == (Path("/wal") / SECOND, at)
    assert torn[2] > 0


def test_a_partial_header_at_the_end_is_cut(written: Written) -> None:
    at = written.data[-1]
    for length in range(1, HEADER_BYTES):
        torn = written.image[SECOND][at : at + length]
        disk = written.changed(SECOND, at, torn.ljust(1000, b"\0"))
        wal = open_wal(disk)
        assert written.without_last_batch(wal)
        assert wal.recovery.torn is not None, length


def test_every_length_of_an_unfinished_last_batch_is_cut(written: Written) -> None:
    at, end = written.data[-1], written.ends[SECOND]
    for length in range(end - at):
        disk = written.changed(SECOND, at + length, bytes(end - at - length))
        wal = open_wal(disk)
        whole_but_padding = bytes(disk.names[SECOND].data) == written.image[SECOND]
        assert written.whole(wal) if whole_but_padding else written.without_last_batch(wal), length


def test_a_torn_tail_is_cut_once_and_the_log_goes_on(written: Written) -> None:
    at = written.data[-1]
    disk = written.flipped(SECOND, at + HEADER_BYTES)
    wal = open_wal(disk)
    wal.append("log", b"after")
    settle(wal)
    wal.close()
    again = open_wal(disk)
    assert again.recovery.torn is None
    assert read_all(again, "log") == b"".join(written.lines[:-1]) + b"after"


def test_records_of_a_cut_batch_are_never_taken_for_those_of_the_next() -> None:
    """The first half of a new batch and the second half of a cut one must not make a whole.

    The clock stands still, so that both batches agree in everything but their payloads.
    """
    disk = MemoryDisk()
    wal = open_wal(disk)
    for name in "ab":
        wal.append(name, b"begun")
    settle(wal)
    end = tail(disk)
    wal.append("a", b"old-old-")
    wal.append("b", b"old-old-")
    settle(wal)
    record = HEADER_BYTES + 8
    image = image_of(disk)
    data = bytearray(image[FIRST])
    data[end : end + record] = bytes(record)  # the first half never reached the disk
    torn = disk_with({FIRST: bytes(data)})
    wal = open_wal(torn)
    assert wal.recovery.torn is not None
    cut = image_of(torn)[FIRST]
    wal.append("a", b"new-new-")
    wal.append("b", b"new-new-")
    settle(wal)
    half = bytearray(image_of(torn)[FIRST])
    half[end + record :] = cut[end + record :]  # and now the second half does not
    wal = open_wal(disk_with({FIRST: bytes(half)}))
    assert (read_all(wal, "a"), read_all(wal, "b")) == (b"begun", b"begun")


def tail(disk: MemoryDisk) -> int:
    return [finding.offset for finding in inspect_wal(disk.root, disk=disk)][-1]


def test_a_stale_record_in_a_reused_place_is_not_live() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    payload = b"stale".ljust(4096, b"!")
    for _ in range(7):
        wal.append("s", payload)
        settle(wal)
    old = image_of(disk)[FIRST]
    fill_file(wal, "s")
    durable = wal.stream("s")
    assert durable is not None
    wal.commit("s", durable.durable)
    settle(wal)
    fill_file(wal, "s")  # goes on in what was the first file
    image = image_of(disk)
    name = max(image)
    end = tail(disk)
    # Old records in their old places, one of them right where the next record would go.
    stale = bytearray(image[name])
    stale[end:-64] = old[end:-64]
    first_old = old[RECORDS : RECORDS + 1000]
    stale[end : end + len(first_old)] = first_old
    image[name] = bytes(stale)
    again = open_wal(disk_with(image))
    view = again.stream("s")
    assert view == wal.stream("s")
    assert again.recovery.torn is None
    assert read_all(again, "s") == read_all(wal, "s")


def test_what_looks_like_a_record_inside_a_payload_is_not_one() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("s", b"first")
    settle(wal)
    forged = image_of(disk)[FIRST][RECORDS : tail(disk)]
    wal.append("s", forged * 3)
    settle(wal)
    at = tail(disk)
    image = image_of(disk)
    wal = open_wal(disk_with(image))
    assert read_all(wal, "s") == b"first" + forged * 3
    # Nor when the record around it is torn.
    data = bytearray(image[FIRST])
    data[at - 10] ^= 1
    wal = open_wal(disk_with({FIRST: bytes(data)}))
    assert read_all(wal, "s") == b"first"


def test_an_unknown_record_type_is_refused(written: Written) -> None:
    at = written.data[1]
    wal_id = written.image[SECOND][16:32]
    seed = file_seed(wal_id, 2)
    header = unpack_header(seed, at, written.image[SECOND][at : at + HEADER_BYTES])
    assert header is not None
    placed = bytearray(PLACED_HEADER.pack(at, *header._replace(type=99)))
    CHECKED.pack_into(placed, 0, MAGIC, crc32c(bytes(placed), seed))
    refused(written.changed(SECOND, at, bytes(placed)), SECOND, at, "unexpected record type 99")


# Sealed files.


def test_a_damaged_index_is_replaced_by_scanning(written: Written) -> None:
    index = written.ends[FIRST]
    footer = len(written.image[FIRST]) - 64
    directory = struct.unpack_from("<Q", written.image[FIRST], footer + 16)[0] + HEADER_BYTES
    assert directory < index
    for disk in (
        written.flipped(FIRST, directory + 10),
        written.flipped(FIRST, directory - HEADER_BYTES + 20),
    ):
        wal = open_wal(disk)
        assert wal.recovery.corruptions == 1
        assert written.whole(wal)


def test_a_damaged_footer_is_replaced_by_scanning(written: Written) -> None:
    for at in range(-64, 0):
        wal = open_wal(written.flipped(FIRST, len(written.image[FIRST]) + at))
        assert wal.recovery.corruptions == 1
        assert written.whole(wal)


def test_a_damaged_index_and_a_damaged_record_are_refused(written: Written) -> None:
    disk = written.flipped(FIRST, len(written.image[FIRST]) - 1)
    at = written.filler_data[2]
    data = disk.names[FIRST].data
    data[at + 100] ^= 1
    refused(disk, FIRST, at, "bad record in batch")


def test_damaged_index_entries_are_noticed_when_the_stream_is_read(written: Written) -> None:
    footer = len(written.image[FIRST]) - 64
    index, length = struct.unpack_from("<QQ", written.image[FIRST], footer + 16)
    wal = open_wal(written.flipped(FIRST, index + HEADER_BYTES + length - 1))
    with pytest.raises(WalCorrupt, match="checksum mismatch in the index"):
        wal.plan("filler", 0, 1000)
    assert read_all(wal, "log") == b"".join(written.lines)


def test_a_damaged_record_of_a_sealed_file_is_noticed_when_it_is_read(written: Written) -> None:
    at = written.filler_data[2]
    for offset, reason in ((at + HEADER_BYTES + 9, "checksum mismatch"), (at + 20, "no record")):
        wal = open_wal(written.flipped(FIRST, offset))
        plan = wal.plan("filler", 0, 100_000)
        with pytest.raises(WalCorrupt, match=reason) as caught:
            wal.read_into(plan, memoryview(bytearray(plan.nbytes)))
        assert (caught.value.file.name, caught.value.offset) == (FIRST, at)


# Everywhere.


def test_every_truncation_of_the_last_file_is_refused(written: Written) -> None:
    whole = written.image[SECOND]
    lengths = [*range(written.ends[SECOND] + 100), *range(written.ends[SECOND], len(whole), 211)]
    for length in lengths:
        disk = disk_with({**written.image, SECOND: whole[:length]})
        with pytest.raises(WalCorrupt) as caught:
            open_wal(disk)
        assert caught.value.file.name == SECOND
        assert caught.value.offset <= length


@pytest.mark.slow
def test_every_flipped_byte_is_noticed_or_harmless(written: Written) -> None:
    """Never a wrong byte, never a lost batch but the very last, which looks unfinished."""
    last = written.data[-1]
    refusals = cuts = 0
    places = [(SECOND, at) for at in range(written.ends[SECOND] + 64)]
    places += [(SECOND, at) for at in range(written.ends[SECOND], 32 << 10, 509)]
    # Of the large payloads in the sealed file a sample is enough.
    inside = {
        at
        for start in written.filler_data
        for at in range(start + HEADER_BYTES, start + HEADER_BYTES + 4096)
        if at % 257
    }
    places += [(FIRST, at) for at in range(32 << 10) if at not in inside]
    for name, at in places:
        mask = 1 << at % 8
        disk = written.flipped(name, at, mask)
        try:
            wal = open_wal(disk)
            if name == SECOND and at >= last and wal.recovery.torn:
                assert written.without_last_batch(wal), (name, at)
                cuts += 1
            else:
                assert written.whole(wal, "log" if name == SECOND else "filler"), (name, at)
        except WalCorrupt as error:
            assert error.file.name == name, (at, str(error))
            refusals += 1
    assert refusals > 1000
    assert cuts > 200
