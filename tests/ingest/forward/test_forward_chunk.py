"""Large and compressed messages: unpacked with a bound, looked through first, cut into parts."""

from __future__ import annotations

import gzip
import random
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.chunk import SLICE_BYTES, Part, check_options, parts
from hf_agent.ingest.forward.compression import unpack
from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.formats import Format
from hf_agent.ingest.forward.json_lines import JsonLines
from hf_agent.ingest.forward.messages import Events, Options
from hf_agent.ingest.forward.packed_entries import PackedEntries
from support.forward_wire import event_time, pack, stream_of

JSON = JsonLines("time", "")
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd.compress}


def entries(count: int, size: int = 50) -> list[Any]:
    rng = random.Random(count)
    return [[event_time(n), {"n": n, "x": rng.randbytes(size // 2).hex()}] for n in range(count)]


def events(data: bytes, **options: Any) -> Events:
    return Events(b"t", memoryview(data), None, Options(**options))


def made(
    message: Events,
    *,
    format: Format = JSON,
    max_part: int = 1 << 20,
    max_unpacked: int = 1 << 26,
    known: int = 0,
) -> list[Part]:
    """All parts."""
    steps = parts(
        message, format, max_part_bytes=max_part, max_unpacked_bytes=max_unpacked, known=known
    )
    found = [step for step in steps if step is not None]
    assert [part.is_last for part in found] == [False] * (len(found) - 1) + [True]
    assert all(len(part.data) <= max_part for part in found)
    return found


def lines(found: list[Part]) -> list[bytes]:
    assert all(part.data.count(b"\n") == part.number for part in found)
    return b"".join(part.data for part in found).splitlines(keepends=True)


def refusal(message: Events, **limits: Any) -> ProtocolError:
    """What is wrong with a message, before any part of it is out."""
    steps = parts(
        message,
        limits.get("format", JSON),
        max_part_bytes=limits.get("max_part", 1 << 20),
        max_unpacked_bytes=limits.get("max_unpacked", 1 << 26),
        known=0,
    )
    with pytest.raises(ProtocolError) as caught:
        for step in steps:
            assert step is None, "a part came out before the error"
    return caught.value


def expected(rows: list[Any]) -> list[bytes]:
    return [JSON.format(Slice(pack(row), 1), b"t", b"") for row in rows]


# Parts.


def test_what_fits_into_one_append_is_one_part() -> None:
    rows = entries(1000)
    (part,) = made(events(stream_of(*rows)))
    assert part.number == 1000
    assert lines([part]) == expected(rows)


@pytest.mark.parametrize("max_part", [150, 1000, 40_000])
def test_what_does_not_fit_is_cut_between_entries_and_nothing_is_lost(max_part: int) -> None:
    rows = entries(2000)
    found = made(events(stream_of(*rows)), max_part=max_part)
    assert len(found) > 2
    assert lines(found) == expected(rows)


@pytest.mark.parametrize("known", [0, 1, 7, 1234, 1999])
def test_the_first_entries_are_left_out_when_they_are_known(known: int) -> None:
    rows = entries(2000, 2000)
    found = made(events(stream_of(*rows)), max_part=100_000, known=known)
    assert lines(found) == expected(rows[known:])


def test_a_large_message_is_worked_on_in_slices() -> None:
    data = stream_of(*entries(5000, 1000))
    assert len(data) > 8 * SLICE_BYTES
    steps = parts(events(data), JSON, max_part_bytes=8 << 20, max_unpacked_bytes=1 << 26, known=0)
    idle = 0
    while next(steps) is None:
        idle += 1
    assert idle >= 8


def test_entries_longer_than_a_slice_are_whole() -> None:
    rows = [[1, {"a": "x"}], [2, {"b": "y" * (3 * SLICE_BYTES)}], [3, {"c": "z"}]]
    found = made(events(stream_of(*rows)), max_part=4 << 20)
    assert lines(found) == expected(rows)


def test_an_entry_that_is_larger_than_an_append_may_be_is_refused() -> None:
    error = refusal(events(stream_of([1, {"a": 1}], [2, {"b": "y" * 500}])), max_part=300)
    assert error.code == "record_too_large"
    assert "limit=300" in error.message


@pytest.mark.parametrize("max_part", [1000, 1 << 20])
def test_of_a_message_that_makes_no_sense_at_its_end_nothing_is_made(max_part: int) -> None:
    rows = entries(2000)
    for wrong in (b"\x92\x01", b"\xc1", pack(5), pack([1, 2])):
        error = refusal(events(stream_of(*rows) + wrong), max_part=max_part)
        assert error.code == "malformed"


@pytest.mark.parametrize("max_part", [1000, 1 << 20])
def test_a_wrong_size_is_refused(max_part: int) -> None:
    data = stream_of(*entries(2000))
    assert lines(made(events(data, size=2000), max_part=max_part))
    for size in (0, 1999, 2001, -1, 1 << 70):
        error = refusal(events(data, size=size), max_part=max_part)
        assert (error.code, f"size={size} entries=2000" in error.message) == ("malformed", True)
        zipped = events(gzip.compress(data), size=size, compressed="gzip")
        assert "entries=2000" in refusal(zipped, max_part=max_part).message


def test_msgpack_parts_are_the_bytes_that_came() -> None:
    data = stream_of(*entries(3000))
    found = made(events(data), format=PackedEntries(with_tag=False), max_part=10_000)
    assert b"".join(part.data for part in found) == data
    assert sum(part.number for part in found) == 3000


# Compression.


@pytest.mark.parametrize("how", COMPRESS)
def test_compressed_entries_are_unpacked(how: str) -> None:
    rows = entries(3000)
    data = COMPRESS[how](stream_of(*rows))
    assert lines(made(events(data, compressed=how, size=3000))) == expected(rows)


@pytest.mark.parametrize("how", COMPRESS)
def test_members_one_behind_the_other_are_one_stream(how: str) -> None:
    rows = entries(300)
    pieces = [stream_of(*rows[at : at + 7]) for at in range(0, 300, 7)]
    # Members need not end between entries.
    whole = b"".join(pieces)
    cut = [whole[:10], whole[10:5000], b"", whole[5000:]]
    for members in (pieces, cut):
        data = b"".join(COMPRESS[how](member) for member in members)
        assert lines(made(events(data, compressed=how))) == expected(rows)


@pytest.mark.parametrize("how", COMPRESS)
def test_a_bomb_is_refused_before_it_is_unpacked(how: str) -> None:
    bomb = COMPRESS[how](stream_of([1, {"a": "x" * (64 << 20)}]))
    assert len(bomb) < 1 << 20
    error = refusal(events(bomb, compressed=how), max_unpacked=1 << 20)
    assert error.code == "record_too_large"
    assert "max_unpacked_bytes" in error.message
    got = 0
    with pytest.raises(ProtocolError):
        for piece in unpack(bomb, how, piece_bytes=1 << 16, max_bytes=1 << 20):
            assert len(piece) <= 1 << 16
            got += len(piece)
    assert got <= 1 << 20


@pytest.mark.parametrize("how", COMPRESS)
def test_exactly_the_limit_is_allowed(how: str) -> None:
    data = stream_of(*entries(100))
    for max_bytes in (len(data), len(data) - 1):
        pieces = unpack(COMPRESS[how](data), how, piece_bytes=1000, max_bytes=max_bytes)
        if max_bytes == len(data):
            assert b"".join(pieces) == data
        else:
            with pytest.raises(ProtocolError, match="unpacks to more"):
                list(pieces)


@pytest.mark.parametrize("how", COMPRESS)
def test_damaged_or_truncated_compression_is_refused(how: str) -> None:
    data = COMPRESS[how](stream_of(*entries(2000)))
    wrong = [data[:-1], data[: len(data) // 2], data[:5], data + b"x", b"x" + data, b"no " * 99]
    middle = bytearray(data)
    middle[len(data) // 2] ^= 0xFF
    for each in (*wrong, bytes(middle)):
        assert refusal(events(each, compressed=how)).code == "malformed"


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    long = {int(zstd.CompressionParameter.window_log): 27}
    compressor = zstd.ZstdCompressor(options=long)
    data = compressor.compress(stream_of(*entries(10))) + compressor.flush()
    error = refusal(events(data, compressed="zstd"))
    assert (error.code, "cannot be unpacked" in error.message) == ("malformed", True)


def test_endless_empty_members_are_refused() -> None:
    empty = zlib.compress(b"", wbits=31)
    error = refusal(events(empty * 70_000, compressed="gzip"))
    assert "too many members" in error.message


def test_something_compressed_that_holds_nothing_is_nothing() -> None:
    for how, compress in COMPRESS.items():
        (part,) = made(events(compress(b""), compressed=how))
        assert (part.data, part.number) == (b"", 0)


# Options.


def test_only_logs_and_known_compressions_are_taken() -> None:
    for options in ({}, {"compressed": "text"}, {"compressed": "zstd"}, {"fluent_signal": 0}):
        check_options(events(b"x", **options))
    for options in ({"compressed": "lz4"}, {"fluent_signal": 1}, {"fluent_signal": 2}):
        with pytest.raises(ProtocolError) as caught:
            check_options(events(b"x", **options))
        assert caught.value.code == "unsupported"
        assert str(next(iter(options.values()))) in caught.value.message
