"""The note of a repaired stream."""

from __future__ import annotations

import msgspec
import pytest

from hf_agent.streams.bind import Bind, encode_bind
from hf_agent.streams.repaired import (
    Repaired,
    decode_repaired,
    encode_repaired,
    is_repaired,
)

BIND = encode_bind(Bind("s3://bucket/logs", "n/app", "n/app", 10, 4096, 2**64 - 1))


@pytest.mark.parametrize("bind", [b"", BIND])
def test_it_reads_back_as_it_was_written(bind: bytes) -> None:
    note = encode_repaired(bind, 100, 2**62)
    assert is_repaired(note)
    assert decode_repaired(note) == Repaired(1, bind, 100, 2**62)


@pytest.mark.parametrize("note", [b"", BIND])
def test_a_bind_and_no_note_are_told_from_it(note: bytes) -> None:
    assert not is_repaired(note)


def test_of_two_repairs_the_first_says_what_the_store_may_have() -> None:
    first = encode_repaired(BIND, 100, 150)
    assert decode_repaired(encode_repaired(first, 180, 180)) == Repaired(1, BIND, 100, 180)
    assert decode_repaired(encode_repaired(first, 90, 120)) == Repaired(1, BIND, 90, 150)


def test_an_unknown_version_is_refused_by_its_number() -> None:
    with pytest.raises(ValueError, match="unknown version version=9"):
        decode_repaired(msgspec.msgpack.encode([9, b"", 1, 1]))


@pytest.mark.parametrize("note", [b"\x90", b"\x91\xc1", BIND])
def test_bytes_that_are_none_are_refused(note: bytes) -> None:
    with pytest.raises(ValueError, match="not the note of a repaired stream"):
        decode_repaired(note)
