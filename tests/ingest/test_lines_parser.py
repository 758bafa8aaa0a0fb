"""The lines protocol's parser, without any I/O."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.lines.newlines import count_newlines
from hf_agent.ingest.lines.parser import Lines, LinesParser, StreamNamed
from hf_agent.ingest.receive_buffer import LARGEST, ReceiveBuffer


def parse(chunks: list[bytes], limit: int, *, named: bool = False) -> list[tuple[bytes, int] | str]:
    """Everything that comes out, the last line without newline included."""
    parser = LinesParser(limit, ReceiveBuffer(), named=named)
    events: list[tuple[bytes, int] | str] = []
    for chunk in chunks:
        parser.buffer.feed(chunk)
        while (event := parser.next()) is not None:
            events.append(
                event.stream
                if isinstance(event, StreamNamed)
                else (bytes(event.data), event.records)
            )
            parser.consume()
    rest = parser.rest()
    if rest is not None:
        events.append((bytes(rest.data), rest.records))
        parser.consume()
    return events


def content(events: list[tuple[bytes, int] | str]) -> tuple[bytes, int]:
    pieces = [event for event in events if isinstance(event, tuple)]
    return b"".join(data for data, _ in pieces), sum(records for _, records in pieces)


TEXT = b"one\n\n\r\nthree\x00\xff\nfour " + b"x" * 500 + b"\nlast without newline"


def test_all_whole_lines_of_a_read_are_one_piece_byte_for_byte() -> None:
    assert parse([TEXT], 1000) == [
        (TEXT[: TEXT.rindex(b"\n") + 1], 5),
        (b"last without newline", 1),
    ]


def test_lines_come_out_the_same_byte_by_byte_and_at_random_cuts() -> None:
    assert content(parse([bytes([byte]) for byte in TEXT], 1000)) == (TEXT, 6)
    for seed in range(100):
        rng = random.Random(seed)
        cuts = sorted(rng.randrange(len(TEXT)) for _ in range(rng.randint(1, 20)))
        chunks = [TEXT[a:b] for a, b in zip([0, *cuts], [*cuts, len(TEXT)], strict=True)]
        assert content(parse(chunks, 1000)) == (TEXT, 6), f"seed={seed}"


def test_a_line_of_exactly_the_limit_is_taken_newline_included() -> None:
    assert parse([b"123456789\n"], 10) == [(b"123456789\n", 1)]
    assert parse([b"1234567890"], 10) == [(b"1234567890", 1)]


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_line_over_the_limit_is_refused_after_what_came_before_it(cut: int) -> None:
    text = b"good\nalso\n1234567890\nlater"
    parser = LinesParser(10, ReceiveBuffer(), named=False)
    got = b""
    with pytest.raises(ProtocolError) as caught:
        for chunk in (text[:cut], text[cut:]):
            parser.buffer.feed(chunk)
            while (event := parser.next()) is not None:
                assert isinstance(event, Lines)
                got += event.data
                parser.consume()
    assert caught.value.code is ErrorCode.RECORD_TOO_LARGE
    assert got == b"good\nalso\n"


def test_an_endless_line_is_refused_with_bounded_memory_and_no_byte_searched_twice() -> None:
    limit = 4 << 20
    buffer = ReceiveBuffer()
    parser = LinesParser(limit, buffer, named=False)
    with pytest.raises(ProtocolError):
        while True:
            buffer.feed(b"x" * 65536)
            assert parser.next() is None
            assert buffer.capacity <= max(limit + 1, LARGEST)


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=30),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_pieces_are_whole_lines_and_never_over_the_limit(
    lines: list[bytes], cuts: list[int]
) -> None:
    text = b"".join(line + b"\n" for line in lines)
    places = sorted(min(cut, len(text)) for cut in cuts)
    chunks = [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]
    pieces = parse(chunks, 13)
    assert content(pieces) == (text, len(lines))
    for piece in pieces:
        assert isinstance(piece, tuple)
        assert len(piece[0]) <= 13 and piece[0].endswith(b"\n")


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=20), st.booleans())
def test_nothing_but_a_protocol_error_comes_out_of_random_bytes(
    chunks: list[bytes], named: bool
) -> None:
    try:
        events = parse(chunks, 20, named=named)
    except ProtocolError:
        return
    if not named:
        assert content(events)[0] == b"".join(chunks)


def test_the_first_line_names_the_stream_if_asked_for() -> None:
    assert parse([b"app/web\none\ntwo\n"], 100, named=True) == ["app/web", (b"one\ntwo\n", 2)]
    assert parse([b"app/", b"web\n", b"one\n"], 100, named=True) == ["app/web", (b"one\n", 1)]
    assert parse([b"x" * 200 + b"\n"], 10, named=True) == ["x" * 200]


@pytest.mark.parametrize("first", [b"\n", b"../x\n", b"a b\n", b"\xff\n", b"app\r\n", b"x" * 201])
def test_a_first_line_that_is_no_stream_name_is_refused(first: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse([first], 100, named=True)
    assert caught.value.code is ErrorCode.BAD_STREAM


def test_half_a_name_at_the_end_names_nothing() -> None:
    assert parse([b"app"], 100, named=True) == []


@pytest.mark.parametrize("length", [1, 2, 10, 47, 48, 49, 200, 5000, 100_000])
def test_lines_are_counted_right_however_long_they_are(length: int) -> None:
    data = bytearray((b"x" * (length - 1) + b"\n") * max(3, 50_000 // length))
    for start, end in ((0, len(data)), (1, len(data) - 1), (length, 2 * length), (5, 5)):
        assert count_newlines(data, start, end) == bytes(data)[start:end].count(b"\n")
    # What the beginning looks like is not what the rest is.
    mixed = bytearray(b"x" * 10_000 + b"\n" * 10_000 + b"x" * 10_000)
    assert count_newlines(mixed, 0, len(mixed)) == 10_000
