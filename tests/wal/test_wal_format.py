"""The format page, table by table: files built here with nothing but `struct` and a bitwise CRC."""

from __future__ import annotations

import struct

import msgpack
import pytest

from hf_agent.wal import Wal, WalCorrupt
from support.manual_clock import ManualClock
from support.wal_disk import MemoryDisk
from support.wal_tools import disk_with, fill_file, image_of, open_wal, read_all, settle

SIZE = 32 << 10
NOW = 1_000_000_000_000  # the manual clock's first moment, in nanoseconds


def crc32c(data: bytes, start: int = 0) -> int:
    """CRC-32C by its definition: reflected polynomial 0x82F63B78, inverted in and out."""
    crc = start ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Builder:
    """A log file from the tables."""

    def __init__(self, wal_id: bytes, sequence: int) -> None:
        self.seed = crc32c(wal_id + struct.pack("<Q", sequence))
        self.sequence = sequence
        self.data = bytearray(SIZE)
        head = struct.pack("<8sII16sQQQI", b"HFAGWAL\n", 1, 0, wal_id, sequence, SIZE, NOW, 0)
        self.data[0:60] = head
        self.data[60:64] = struct.pack("<I", crc32c(head))
        self.tail = 64

    def record(
        self,
        type: int,
        batch: int,
        payload: bytes,
        *,
        end: bool = True,
        stream: int = 0,
        position: int = 0,
        time: int = NOW,
    ) -> int:
        offset = self.tail
        fields = (crc32c(payload), len(payload), type, int(end), 0, stream, position, batch, time)
        body = struct.pack("<IIBBHIQQQ", *fields)
        checksum = crc32c(struct.pack("<Q", offset) + body, self.seed)
        header = b"\xf1Rec" + struct.pack("<I", checksum) + body
        assert len(header) == 48
        record = header + payload + bytes(-len(payload) % 8)
        self.data[offset : offset + len(record)] = record
        self.tail += len(record)
        return offset

    def seal(self, batch: int, streams: dict[int, tuple[int, list[int], list[int]]]) -> None:
        """`streams`: number to first position, record offsets, relative ends."""
        directory = entries = b""
        for number, (first, offsets, ends) in sorted(streams.items()):
            count = len(offsets)
            block = struct.pack(f"<{2 * count}I", *(offset // 8 for offset in offsets), *ends)
            place = 40 * len(streams) + len(entries)
            directory += struct.pack(
                "<IIQQQII", number, count, first, first + ends[-1], place, crc32c(block), 0
            )
            entries += block
        index = self.record(6, batch, directory + entries)
        footer = struct.pack(
            "<8sQQQIIQQI",
            *(b"HFWALEND", self.sequence, index, len(directory + entries)),
            *(len(streams), crc32c(directory), NOW, batch, 0),
        )
        self.data[-64:] = footer + struct.pack("<I", crc32c(footer, self.seed))


def history(wal: Wal) -> bytes:
    """What the golden files below hold, by way of the library."""
    wal.append("app", b"hello ", marks=[("p", 7)])
    wal.append("app", b"world")
    wal.append("sys/log", b"12345678", marks=[(b"\xff\x00", 9)])
    wal.note("app", b"bound")
    settle(wal)
    filler = fill_file(wal)
    wal.append("sys/log", b"x")
    settle(wal)
    wal.mark([("q", 3 << 63 | 5)])
    settle(wal)
    return filler


def golden(wal_id: bytes, filler: bytes) -> dict[str, bytes]:
    first = Builder(wal_id, 1)
    first.record(5, 1, b"\x92\x90\x90")
    first.record(2, 2, b"app", stream=1, end=False)
    first.record(2, 2, b"sys/log", stream=2, end=False)
    app = first.record(1, 2, b"hello world", stream=1, end=False)
    sys_log = first.record(1, 2, b"12345678", stream=2, end=False)
    first.record(3, 2, b"bound", stream=1, end=False)
    first.record(4, 2, b"\x82\xa1p\x07\xc4\x02\xff\x00\x09")
    chunk = filler[:4096]
    offsets: list[int] = []
    count = len(filler) // len(chunk) - 1  # the last one did not fit
    for index in range(count):
        if index == 0:
            first.record(2, 3, b"filler", stream=3, end=False)
        offsets.append(first.record(1, 3 + index, chunk, stream=3, position=index * len(chunk)))
    batch = 3 + count
    ends = [(index + 1) * len(chunk) for index in range(count)]
    streams = {1: (0, [app], [11]), 2: (0, [sys_log], [8]), 3: (0, offsets, ends)}
    first.seal(batch, streams)
    second = Builder(wal_id, 2)
    snapshot = [
        [
            [1, "app", 11, 0, b"bound"],
            [2, "sys/log", 8, 0, b""],
            [3, "filler", ends[-1], 0, b""],
        ],
        [["p", 7], [b"\xff\x00", 9]],
    ]
    second.record(5, batch + 1, msgpack.packb(snapshot))
    second.record(1, batch + 2, chunk, stream=3, position=ends[-1])
    second.record(1, batch + 3, b"x", stream=2, position=8)
    second.record(4, batch + 4, b"\x81\xa1q\x92\x03\x05")
    return {
        "0000000000000001.wal": bytes(first.data),
        "0000000000000002.wal": bytes(second.data),
    }


def test_files_are_byte_for_byte_what_the_format_page_says() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk, clock=ManualClock())
    filler = history(wal)
    expected = golden(wal.id, filler)
    image = image_of(disk)
    assert sorted(image) == sorted(expected)
    for name, data in expected.items():
        difference = next((at for at in range(SIZE) if image[name][at] != data[at]), None)
        assert difference is None, (name, difference)


def test_files_built_from_the_format_page_are_read() -> None:
    wal_id = bytes(range(16))
    filler = (bytes(range(256)) * 16) * 8
    wal = open_wal(disk_with(golden(wal_id, filler)))
    assert wal.id == wal_id
    assert (wal.recovery.files, wal.recovery.records, wal.recovery.streams) == (2, 11, 3)
    assert wal.recovery.corruptions == 0
    assert wal.recovery.torn is None
    assert read_all(wal, "app") == b"hello world"
    assert read_all(wal, "sys/log") == b"12345678x"
    assert read_all(wal, "filler") == filler
    assert wal.last_mark("p") == 7
    assert wal.last_mark("q") == 3 << 63 | 5
    view = wal.stream("app")
    assert view is not None
    assert view.note == b"bound"


def test_a_commit_record_holds_number_and_position_of_each_stream() -> None:
    disk = MemoryDisk()
    wal = open_wal(disk)
    wal.append("app", b"abc")
    settle(wal)
    wal.commit("app", 3)
    wal.close()
    built = Builder(wal.id, 1)
    built.record(5, 1, b"\x92\x90\x90")
    built.record(2, 2, b"app", stream=1, end=False)
    built.record(1, 2, b"abc", stream=1)
    built.record(7, 3, struct.pack("<IIQ", 1, 0, 3))
    assert image_of(disk)["0000000000000001.wal"] == bytes(built.data)


def begun() -> Builder:
    """A first file with stream 1 at position 3."""
    built = Builder(bytes(16), 1)
    built.record(5, 1, b"\x92\x90\x90")
    built.record(2, 2, b"app", stream=1, end=False)
    built.record(1, 2, b"abc", stream=1)
    return built


@pytest.mark.parametrize(
    ("type", "payload", "fields", "reason"),
    [
        (1, b"x", {"batch": 4, "stream": 1, "position": 3}, "batch 4 behind it"),
        (1, b"x", {"stream": 1, "position": 4}, "bytes 3 to 4 of stream 'app' are missing"),
        (1, b"x", {"stream": 1, "position": 2}, "of stream 'app' are missing"),
        (1, b"", {"stream": 1, "position": 3}, "of stream 'app' are missing"),
        (1, b"x", {"stream": 2}, "unknown stream number 2"),
        (3, b"x", {"stream": 2}, "unknown stream number 2"),
        (2, b"app", {"stream": 2}, "stream 'app' appears twice"),
        (2, b"other", {"stream": 1}, "stream 'other' appears twice"),
        (2, b"\xff", {"stream": 2}, "can't decode"),
        (4, b"\xc1", {}, "not msgpack"),
        (4, b"\x81\xa1p\xa1x", {}, "a mark is neither an integer nor a pair"),
        (4, b"\x81\xa1p\x93\x01\x02\x03", {}, "a mark is neither an integer nor a pair"),
        (4, b"\x81\xa1p\x92\x00\x02", {}, "a mark's pair is out of range"),
        (4, b"\x81\xa1p\x92\x01\xff", {}, "a mark's pair is out of range"),
        (4, b"\x81\xa1p\x92\x01\xcf" + b"\xff" * 8, {}, "a mark's pair is out of range"),
        (4, b"\x90", {}, "not a map"),
        (5, b"\x92\x90\x90", {}, "unexpected record type 5"),
        (7, bytes(15), {}, "not a whole number of entries"),
    ],
)
def test_records_that_contradict_what_came_before_are_refused(
    type: int, payload: bytes, fields: dict[str, int], reason: str
) -> None:
    built = begun()
    offset = built.record(type, fields.pop("batch", 3), payload, **fields)  # type: ignore[arg-type]
    with pytest.raises(WalCorrupt, match=reason) as caught:
        open_wal(disk_with({"0000000000000001.wal": bytes(built.data)}))
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    "payload",
    [
        b"\x91\x90",
        b"\xc1",
        b"\x92\x90",
        msgpack.packb([[[1, "a", 3, 4, b""]], []]),
        msgpack.packb([[[1, "a", 3, 0, b""], [1, "b", 3, 0, b""]], []]),
        msgpack.packb([[[1, "a", "x", 0, b""]], []]),
        msgpack.packb([[], [["p", [1, -1]]]]),
    ],
)
def test_an_unreadable_snapshot_is_refused(payload: bytes) -> None:
    built = Builder(bytes(16), 1)
    built.record(5, 1, payload)
    with pytest.raises(WalCorrupt, match="unreadable snapshot") as caught:
        open_wal(disk_with({"0000000000000001.wal": bytes(built.data)}))
    assert caught.value.offset == 64


def test_records_of_two_attempts_at_a_batch_are_not_taken_for_one() -> None:
    built = begun()
    cut = built.record(1, 3, b"first", stream=1, position=3, end=False)
    built.record(1, 3, b"second", stream=1, position=8, time=NOW + 1)
    wal = open_wal(disk_with({"0000000000000001.wal": bytes(built.data)}))
    assert read_all(wal, "app") == b"abc"
    assert wal.recovery.torn is not None
    assert wal.recovery.torn[1] == cut


def test_a_batch_without_its_end_is_refused_when_the_next_one_follows() -> None:
    built = begun()
    built.record(1, 3, b"first", stream=1, position=3, end=False)
    at = built.record(1, 4, b"second", stream=1, position=8)
    with pytest.raises(WalCorrupt, match="batch 3, and batch 4 behind it") as caught:
        open_wal(disk_with({"0000000000000001.wal": bytes(built.data)}))
    assert caught.value.offset == at


def test_a_sealed_file_that_does_not_join_the_next_is_refused() -> None:
    first, second = begun(), Builder(bytes(16), 2)
    first.seal(3, {1: (0, [64 + 56 + 56], [3])})
    second.record(5, 5, msgpack.packb([[[1, "app", 3, 0, b""]], []]))
    names = ("0000000000000001.wal", "0000000000000002.wal")
    image = dict(zip(names, (bytes(first.data), bytes(second.data)), strict=True))
    with pytest.raises(WalCorrupt, match="ends with batch 3, the next one goes on after 4"):
        open_wal(disk_with(image))
    for position, name, reason in ((4, "app", "bytes 3 to 4"), (3, "", "lacks stream number 1")):
        second = Builder(bytes(16), 2)
        streams = [[1, name, position, 0, b""]] if name else []
        second.record(5, 4, msgpack.packb([streams, []]))
        image[names[1]] = bytes(second.data)
        with pytest.raises(WalCorrupt, match=reason):
            open_wal(disk_with(image))
