"""Inodes, headers and keys as bytes, against the tables of the format page."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import pytest
from crc32c import crc32c

from hf_agent.hyperfile.errors import ChecksumError, FormatError
from hf_agent.hyperfile.fingerprints import fingerprint, fingerprints_of_state
from hf_agent.hyperfile.inode import Inode, InodeLayout, decode_inode, with_flags
from hf_agent.hyperfile.keys import ObjectName, parse_object_key
from hf_agent.hyperfile.meta_config import MetaConfig, PointerFormat, align
from hf_agent.hyperfile.segment import (
    decode_segment_header,
    encode_segment_header,
    summary_bytes,
)
from hf_agent.hyperfile.stream_object import decode_stream_header
from support.golden import GOLDEN, MANIFEST

INODES = sorted(GOLDEN.glob("*/inode"))
SEGMENTS = sorted(
    path
    for path in GOLDEN.glob("*/0*")
    if path.read_bytes()[:4] == b"SSFH" and path.parent.name != "legacy-02"
)


def golden_inode(name: str = "parted") -> bytes:
    return (GOLDEN / name / "inode").read_bytes()


@pytest.mark.parametrize("path", INODES, ids=lambda path: path.parent.name)
def test_an_inode_of_the_crate_is_encoded_to_its_own_bytes(path: Path) -> None:
    inode = decode_inode(path.read_bytes(), source="inode")
    if inode.layout is InodeLayout.LEGACY:
        with pytest.raises(ValueError, match="current layout"):
            inode.encode()
    else:
        assert inode.encode() == path.read_bytes()


def test_an_inode_has_each_field_where_the_table_says() -> None:
    inode = Inode(
        meta=MetaConfig(12, 16, PointerFormat.PARTED),
        root=struct.pack("<BBHI", 0, 1, 0, 3) + bytes(48),
        size=10,
        blocks=11,
        last_seq=13,
        last_cno=12,
        ino=1,
        atime_ns=2_000_000_005,
        ctime_ns=3_000_000_006,
        mtime_ns=4_000_000_007,
        uid=8,
        gid=9,
        mode=0o100600,
        flags=0x40000002,
        nlink=2,
    )
    table = struct.pack("<QQQQ", 1, 2, 3, 4)
    table += struct.pack("<III", 5, 6, 7)
    table += struct.pack("<I", 7 << 24 | 12 << 16 | 16 << 8 | 3)
    table += struct.pack("<II", 8, 9)
    table += struct.pack("<II", 0o100600, 0x40000002)
    table += struct.pack("<QQQQQ", 2, 10, 11, 13, 12)
    assert len(table) == 104
    table += struct.pack("<BBHI", 0, 1, 0, 3) + bytes(48)
    assert inode.encode() == table
    assert decode_inode(table, source="inode") == inode


def test_the_02_layout_has_each_field_where_the_page_says() -> None:
    table = struct.pack("<QQQ", 1, 11, 10)
    table += struct.pack("<QQQ", 2, 3, 4) + struct.pack("<III", 5, 6, 7)
    table += struct.pack("<I", 0x070C0C01)
    table += struct.pack("<IIII", 8, 9, 0o100600, 2)
    table += struct.pack("<QQQ", 3, 13, 12)
    assert len(table) == 104
    table += struct.pack("<BBHI", 0, 1, 0, 2) + bytes(48)
    inode = decode_inode(table, source="inode")
    assert inode.layout is InodeLayout.LEGACY
    # The meta config says 1; the root decides.
    assert inode.meta == MetaConfig(12, 12, PointerFormat.MICRO_GROUP)
    assert (inode.ino, inode.blocks, inode.size, inode.nlink) == (1, 11, 10, 3)
    assert (inode.atime_ns, inode.mtime_ns) == (2_000_000_005, 4_000_000_007)
    assert (inode.uid, inode.gid, inode.mode, inode.flags) == (8, 9, 0o100600, 2)
    assert (inode.last_seq, inode.last_cno) == (13, 12)


def patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize(
    ("data", "rule", "offset"),
    [
        (b"", "exactly 160 bytes, not 0", 0),
        (golden_inode()[:159], "exactly 160 bytes, not 159", 0),
        (golden_inode() + b"\0", "exactly 160 bytes, not 161", 0),
        (bytes(160), "not valid in either layout", 44),
        (patched(golden_inode(), 44, b"\x00"), "not valid in either layout", 44),
        (patched(golden_inode(), 44, b"\x05"), "format 5, this program reads 1 to 4: use", 44),
        (patched(golden_inode(), 44, b"\xff"), "format 255, this program reads 1 to 4", 44),
        (patched(golden_inode(), 45, b"\x0b"), "not valid in either layout", 44),
        (patched(golden_inode(), 46, b"\x1f"), "not valid in either layout", 44),
        (patched(golden_inode(), 47, b"\x08"), "not valid in either layout", 44),
        (patched(golden_inode(), 108, b"\x04"), "different pointer formats", 108),
        (patched(golden_inode(), 88, struct.pack("<Q", 1 << 30)), "last_seq is at most", 88),
        (patched(golden_inode(), 96, struct.pack("<Q", 5)), "last_cno 5 is over last_seq 4", 96),
        (patched(patched(golden_inode(), 60, b"\x01"), 72, b"\x51"), "at most 80 bytes", 72),
        (patched(golden_inode(), 79, b"\x80"), "over 2", 72),
        (patched(golden_inode(), 87, b"\x80"), "over 2", 72),
        (patched(golden_inode("legacy-02"), 23, b"\x80"), "over 2", 8),
        (patched(golden_inode(), 36, b"\xff" * 4), "nanoseconds", 32),
        (patched(golden_inode("legacy-02"), 48, b"\xff" * 4), "nanoseconds", 48),
        (patched(golden_inode("legacy-02"), 108, b"\x09"), "no pointer format 9", 108),
        (patched(golden_inode("legacy-02"), 76, b"\x01"), "never inline", 76),
    ],
)
def test_a_damaged_inode_is_named(data: bytes, rule: str, offset: int) -> None:
    with pytest.raises(FormatError, match=rule) as caught:
        decode_inode(data, source="k/inode")
    assert (caught.value.object, caught.value.offset) == ("k/inode", offset)
    assert f"object=k/inode offset={offset}" in str(caught.value)


def test_the_largest_numbers_of_an_inode_are_taken() -> None:
    top = struct.pack("<QQ", (1 << 30) - 1, (1 << 30) - 1)
    assert decode_inode(patched(golden_inode(), 88, top), source="k").last_cno == (1 << 30) - 1


def golden_bases(name: str) -> dict[int, tuple[int, bytes]]:
    """Base and inode of each checkpoint object of a golden container."""
    bases: dict[int, tuple[int, bytes]] = {}
    for path in GOLDEN.glob(f"{name}/0*"):
        raw = path.read_bytes()
        number = int(path.name.split(".")[0])
        if path.suffix in ("", ".0") and raw[:4] == b"SSFH":
            bases[number] = (int.from_bytes(raw[16:24], "little"), raw[24:184])
        elif path.suffix == ".0" and raw[-256:-252] == b"HFST":
            bases[number] = (int.from_bytes(raw[-224:-216], "little"), raw[-216:-56])
    return bases


@pytest.mark.parametrize("name", [name for name in MANIFEST if name not in ("legacy-02", "empty")])
def test_each_checkpoint_names_the_fingerprint_of_the_one_before(name: str) -> None:
    bases = golden_bases(name)
    others = {
        # The stored inode was changed in between, without a checkpoint.
        ("parted-64k-blocks", 3),
        ("orphan-foreign", 4),
    }
    for number in sorted(bases.keys() - {1}):
        before = bases[number - 1][1]
        same = bases[number][0] == fingerprint(before)
        assert same == ((name, number) not in others)
        assert same == (bases[number][0] in fingerprints_of_state(before))


def test_a_fingerprint_leaves_out_last_seq_only() -> None:
    inode = golden_inode()
    assert fingerprint(patched(inode, 88, b"\xff" * 8)) == fingerprint(inode)
    for offset in {*range(160)} - {*range(88, 96)}:
        changed = patched(inode, offset, bytes([inode[offset] ^ 1]))
        assert fingerprint(changed) != fingerprint(inode)
    with pytest.raises(ValueError, match="length=159"):
        fingerprint(inode[:-1])


def test_flags_change_and_nothing_else_does() -> None:
    inode = golden_inode()
    flagged = with_flags(inode, set=0x8)
    assert [at for at in range(160) if flagged[at] != inode[at]] == [60]
    assert with_flags(flagged, clear=0x8) == inode


@pytest.mark.parametrize("path", SEGMENTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_segment_header_of_the_crate_is_encoded_to_its_own_bytes(path: Path) -> None:
    raw = path.read_bytes()
    header = decode_segment_header(raw[:208], source="object", object_size=len(raw))
    assert header.data_end == len(raw)
    again = encode_segment_header(
        checkpoint=header.checkpoint,
        flags=header.flags,
        meta_shift=header.meta_shift,
        data_shift=header.data_shift,
        meta_blocks=header.meta_blocks,
        data_blocks=header.data_blocks,
        base=header.base,
        inode=header.inode,
    )
    assert again[:4] + bytes(4) + again[8:] == raw[:208]
    assert not header.has_checksum
    assert decode_segment_header(again, source="object", object_size=len(raw)).has_checksum
    assert align(summary_bytes(header.data_blocks)) == header.meta_offset


@pytest.mark.parametrize(
    ("offset", "value", "rule"),
    [
        (0, b"X", "does not begin with a segment header"),
        (8, b"\x01", "do not have"),
        (14, b"\x0b", "block size 2"),
        (15, b"\xff", "block size 2"),
        (200, b"\xff\xff\xff\xff", "fewer than"),
        (204, b"\xff\xff\xff\xff", "do not have"),
    ],
)
def test_a_damaged_segment_header_is_named(offset: int, value: bytes, rule: str) -> None:
    raw = (GOLDEN / "parted" / "0000000004.0").read_bytes()
    with pytest.raises(FormatError, match=rule):
        decode_segment_header(patched(raw, offset, value), source="k", object_size=len(raw))


def test_a_cut_segment_is_named() -> None:
    raw = (GOLDEN / "parted" / "0000000004.0").read_bytes()
    with pytest.raises(FormatError, match="208 bytes, not 207"):
        decode_segment_header(raw[:207], source="k", object_size=207)
    with pytest.raises(FormatError, match="fewer than"):
        decode_segment_header(raw[:-1], source="k", object_size=len(raw) - 1)


STREAM = (GOLDEN / "stream" / "0000000004.0").read_bytes()


def decode_stream(raw: bytes, checkpoint: int = 4, part: int = 0, size: int | None = None) -> None:
    decode_stream_header(
        raw[-256:],
        source="k",
        object_size=len(raw) if size is None else size,
        checkpoint=checkpoint,
        part=part,
    )


def resealed(raw: bytes) -> bytes:
    return raw[:-4] + struct.pack("<I", zlib.crc32(raw[-256:-4]))


def test_a_stream_header_is_taken_only_when_all_of_it_holds() -> None:
    decode_stream(STREAM)
    start = len(STREAM) - 256
    for raw, rule in [
        (b"", "does not end with a stream header"),
        (STREAM[:255], "does not end with a stream header"),
        (patched(STREAM, start, b"X"), "does not end with a stream header"),
        (patched(STREAM, start + 50, b"X"), "checksum"),
        (resealed(patched(STREAM, start + 4, b"\x02")), "version 2"),
        (resealed(patched(STREAM, start + 8, b"\x05")), "names another object, 5.0"),
        (resealed(patched(STREAM, start + 18, b"\x03")), "block size"),
        (resealed(patched(STREAM, start + 20, b"\x03")), "do not add up"),
        (resealed(patched(STREAM, start + 24, b"\x03")), "do not add up"),
    ]:
        with pytest.raises(FormatError, match=rule):
            decode_stream(raw)
    with pytest.raises(FormatError, match="names another object"):
        decode_stream(STREAM, checkpoint=3)
    with pytest.raises(FormatError, match="names another object"):
        decode_stream(STREAM, part=1)
    with pytest.raises(FormatError, match="do not add up"):
        decode_stream(STREAM, size=len(STREAM) + 1)


@pytest.mark.parametrize(
    ("object_key", "expected"),
    [
        ("r/0000000012", ObjectName(12, None)),
        ("r/0000000012.0", ObjectName(12, 0)),
        ("r/0000000012.16383", ObjectName(12, 16383)),
        ("r/inode", None),
        ("r/12.0", None),
        ("r/0000000012.00", None),
        ("r/0000000012.01", None),
        ("r/0000000012.", None),
        ("r/0000000012.0.tmp", None),
        ("r/x/0000000012.0", None),
        ("0000000012.0", None),
        ("q/0000000012.0", None),
    ],
)
def test_only_well_formed_names_are_checkpoint_objects(
    object_key: str, expected: ObjectName | None
) -> None:
    assert parse_object_key("r", object_key) == expected


def test_a_meta_config_goes_through_its_32_bits() -> None:
    rng = random.Random(5)
    for _ in range(1000):
        value = rng.getrandbits(32)
        config = MetaConfig.unpack(value)
        assert config is None or config.pack() == value
    for pointer_format in PointerFormat:
        config = MetaConfig(12, 30, pointer_format)
        assert MetaConfig.unpack(config.pack()) == config


def test_the_header_of_this_package_carries_the_checksum_of_the_page() -> None:
    inode = golden_inode()
    header = encode_segment_header(
        checkpoint=7,
        flags=0,
        meta_shift=12,
        data_shift=16,
        meta_blocks=2,
        data_blocks=3,
        base=0x0123456789ABCDEF,
        inode=inode,
    )
    expected = struct.pack("<IIIHBBQ", 0x48465353, 0, 208 + 48, 0, 12, 16, 0x0123456789ABCDEF)
    expected += inode + struct.pack("<QQII", 0, 7, 2, 3)
    assert header[:4] + bytes(4) + header[8:] == expected
    assert struct.unpack_from("<I", header, 4)[0] == (crc32c(expected) or 1)


def test_a_header_with_a_damaged_magic_is_still_known_for_ours() -> None:
    raw = (GOLDEN / "parted" / "0000000001.0").read_bytes()
    header = bytearray(raw[:208])
    header[4:8] = struct.pack("<I", crc32c(bytes(header)) or 1)
    assert decode_segment_header(bytes(header), source="o", object_size=1 << 20).has_checksum
    header[0] ^= 1
    with pytest.raises(ChecksumError, match="checksum of the header"):
        decode_segment_header(bytes(header), source="o", object_size=1 << 20)
    with pytest.raises(FormatError, match="does not begin with a segment header"):
        decode_segment_header(bytes(header[:4]) + raw[4:208], source="o", object_size=1 << 20)
