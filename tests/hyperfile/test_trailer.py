"""The checkpoint trailer, against the table of docs/checkpoint-trailer.md."""

from __future__ import annotations

import struct
from array import array

import pytest
from crc32c import crc32c

from hf_agent.hyperfile.errors import ChecksumError, ReadOnlyLayout
from hf_agent.hyperfile.trailer import (
    Trailer,
    decode_trailer,
    encode_trailer,
    ends_like_a_trailer,
    trailer_bytes,
)

WRITER = bytes(range(16))
TRAILER = Trailer(WRITER, 0x1122334455667788, 42, 1, array("I", [2, 3]), array("I", [4, 5, 6, 7]))


def golden() -> bytes:
    """Built from the page's table alone: M = 2, D = 4, T = 32."""
    return golden_of_version(2)


def golden_of_version(version: int) -> bytes:
    body = struct.pack("<I", 1) + struct.pack("<2I", 2, 3) + struct.pack("<4I", 4, 5, 6, 7)
    body += bytes(32 - len(body))
    body += b"HFAGTRLR" + struct.pack("<HHI", version, 0, 32 + 64)
    body += WRITER + struct.pack("<QQII", 0x1122334455667788, 42, 2, 4) + struct.pack("<I", 0)
    assert len(body) == 32 + 60
    return body + struct.pack("<I", crc32c(body))


def decode(
    data: bytes,
    checkpoint: int = 42,
    metas: int = 2,
    datas: int = 4,
    declared: bool = True,
    refuse_later: bool = False,
) -> Trailer | None:
    return decode_trailer(
        data,
        source="k/0000000042.0",
        offset=8192,
        checkpoint=checkpoint,
        meta_blocks=metas,
        data_blocks=datas,
        declared=declared,
        refuse_later=refuse_later,
    )


def resealed(data: bytes) -> bytes:
    return data[:-4] + struct.pack("<I", crc32c(data[:-4]))


def test_the_checksum_is_crc_32c() -> None:
    assert crc32c(b"123456789") == 0xE3069283


def test_a_trailer_is_the_bytes_of_the_page() -> None:
    assert encode_trailer(TRAILER) == golden()
    assert decode(golden()) == TRAILER
    assert trailer_bytes(2, 4) == len(golden()) == 96


@pytest.mark.parametrize("blocks", range(12))
def test_its_length_is_a_multiple_of_8_whatever_the_counts(blocks: int) -> None:
    trailer = Trailer(WRITER, 0, 1, 9, array("I"), array("I", range(blocks)))
    data = encode_trailer(trailer)
    assert len(data) == trailer_bytes(0, blocks)
    assert len(data) % 8 == 0
    assert decode(data, checkpoint=1, metas=0, datas=blocks) == trailer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        golden()[1:],
        golden() + bytes(8),
        golden()[:32] + b"X" + golden()[33:],
        resealed(golden()[:40] + b"\x03" + golden()[41:]),
    ],
    ids=["nothing", "short", "long", "magic", "version"],
)
def test_other_bytes_behind_the_data_are_no_trailer(data: bytes) -> None:
    assert decode(data, declared=False) is None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no trailer of 96 bytes"),
        (golden()[1:], "no trailer of 96 bytes"),
        (golden() + bytes(8), "no trailer of 96 bytes"),
        (golden()[:32] + b"X" + golden()[33:], "checksum of the trailer"),
        (golden_of_version(1), "version 1 does not go with the header"),
    ],
    ids=["nothing", "short", "long", "magic", "version"],
)
def test_a_trailer_that_the_header_declares_is_not_taken_for_other_bytes(
    data: bytes, problem: str
) -> None:
    with pytest.raises(ChecksumError, match=problem) as caught:
        decode(data)
    assert caught.value.what == "trailer"


def test_a_trailer_of_version_1_belongs_to_a_header_without_checksum() -> None:
    assert decode(golden_of_version(1), declared=False) == TRAILER
    with pytest.raises(ChecksumError, match="version 2 does not go with the header"):
        decode(golden(), declared=False)


def test_a_later_version_is_no_damage() -> None:
    assert decode(golden_of_version(3)) is None


def test_a_later_version_is_refused_by_its_number_where_something_goes_on_top_of_it() -> None:
    reason = r"version 3, this program knows 1 and 2: .* object=k/0000000042\.0 offset=8192"
    with pytest.raises(ReadOnlyLayout, match=reason):
        decode(golden_of_version(3), refuse_later=True)
    assert decode(golden_of_version(2), refuse_later=True) == TRAILER
    with pytest.raises(ChecksumError):  # a version that is damaged is damage
        decode(golden_of_version(2).replace(b"RLR\x02", b"RLR\x03"), refuse_later=True)


def test_the_end_of_an_object_tells_whose_it_was() -> None:
    tail = golden()[-64:]
    assert ends_like_a_trailer(tail, 42)
    assert not ends_like_a_trailer(tail, 43)
    assert not ends_like_a_trailer(b"X" + tail[1:], 42)
    assert not ends_like_a_trailer(tail[1:], 42)


@pytest.mark.parametrize("at", [0, 5, 31, 48, 64, 90, 95])
def test_a_changed_byte_is_damage(at: int) -> None:
    data = golden()
    with pytest.raises(ChecksumError, match="checksum of the trailer") as caught:
        decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert (caught.value.object, caught.value.offset) == ("k/0000000042.0", 8192)


def test_a_trailer_of_another_object_is_damage() -> None:
    with pytest.raises(ChecksumError, match="another object"):
        decode(golden(), checkpoint=43)
    with pytest.raises(ChecksumError, match="another object"):
        decode(golden(), metas=3, datas=3)


def test_a_writer_id_has_16_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes, not 3"):
        encode_trailer(Trailer(b"abc", 0, 1, 0, (), ()))
