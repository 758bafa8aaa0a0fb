"""Where syslog messages begin and end: the same however the bytes are cut."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_agent.ingest.receive_buffer import ReceiveBuffer, Unbounded
from hf_agent.ingest.syslog.framing import Messages, Part, PlainLines, SyslogFraming, Trailer


def read(
    pieces: list[bytes],
    *,
    max_bytes: int = 100,
    octet_counting: bool = True,
    trailer: Trailer = "any",
    plain: bool = False,
    cut: bool = False,
) -> list[bytes | Part]:
    """All messages and parts in `pieces`, which arrive one after the other and then end."""
    buffer = ReceiveBuffer(Unbounded())
    parser = SyslogFraming(
        max_bytes, buffer, octet_counting=octet_counting, trailer=trailer, plain=plain
    )
    found: list[bytes | Part] = []

    def take(event: Messages | PlainLines | Part) -> None:
        if isinstance(event, Part):
            assert len(event.data) <= max_bytes
            found.append(event)
        elif isinstance(event, Messages):
            found.extend(event.messages)
        else:
            lines = bytes(event.data).split(b"\n")
            assert lines.pop() == b"" and len(lines) == event.records
            found.extend(lines)
        parser.consume()

    for piece in pieces:
        buffer.feed(piece)
        while (event := parser.next()) is not None:
            take(event)
        assert len(buffer) <= max_bytes + 12, "more is kept than one message"
    rest = parser.rest(cut=cut)
    if rest is not None:
        take(rest)
    assert parser.next() is None and parser.rest() is None
    return found


WIRE = [
    (b"<1>one\n<2>two\n", [b"<1>one", b"<2>two"]),
    (b"6 <1>one<2>two\n", [b"<1>one", b"<2>two"]),
    (b"8 <1>a\nb\0c6 <2>two", [b"<1>a\nb\0c", b"<2>two"]),
    (b"<1>one\0<2>two\n\0\n\n3 abc\n<", [b"<1>one", b"<2>two", b"abc", b"<"]),
    (b"no priority\n0 zero\n12x\n", [b"no priority", b"0 zero", b"12x"]),
    (b"12345678901 \n", [b"12345678901 "]),
    (b"12", [b"12"]),
    (b"7 cut", [Part(b"cut", 1, True)]),
    (b"7 ", [Part(b"", 1, True)]),
    (b"<1>" + b"x" * 97 + b"\n", [b"<1>" + b"x" * 97]),
    (b"x" * 250 + b"\n<1>y\n", [
        *(Part(b"x" * 100, 1, True), Part(b"x" * 100, 2, True), Part(b"x" * 50, 3, False)),
        b"<1>y",
    ]),
    (b"201 " + b"\n" * 201 + b"<1>y", [
        *(Part(b"\n" * 100, 1, True), Part(b"\n" * 100, 2, True), Part(b"\n", 3, False)),
        b"<1>y",
    ]),
    (b"9999999999 " + b"z" * 150, [Part(b"z" * 100, 1, True), Part(b"z" * 50, 2, True)]),
    (b"", []),
    (b"\n\0\n", []),
]  # fmt: skip


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(("wire", "expected"), WIRE)
def test_messages_come_out_whole_byte_by_byte_and_with_bytes_behind(
    wire: bytes, expected: list[bytes | Part], plain: bool
) -> None:
    assert read([wire], plain=plain) == expected
    assert read([wire[i : i + 1] for i in range(len(wire))], plain=plain) == expected


def test_a_trailer_may_be_chosen_so_that_messages_may_hold_the_other() -> None:
    assert read([b"<1>a\nb\0<1>c\0"], trailer="nul") == [b"<1>a\nb", b"<1>c"]
    assert read([b"<1>a\0b\n<1>c\n"], trailer="newline") == [b"<1>a\0b", b"<1>c"]


def test_without_octet_counting_digits_begin_a_message() -> None:
    assert read([b"12 monkeys\n<1>x\n"], octet_counting=False) == [b"12 monkeys", b"<1>x"]


def test_a_message_that_a_stop_cuts_is_given_as_far_as_it_came() -> None:
    assert read([b"<1>a\n<1>b"], cut=True) == [b"<1>a", Part(b"<1>b", 1, True)]


PIECES = st.one_of(
    st.sampled_from([b"<13>text", b"\n", b"\0", b"5 hello", b"12", b" ", b"<", b"0", b"300 "]),
    st.binary(max_size=30),
    st.binary(min_size=90, max_size=240),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(PIECES, max_size=12).map(b"".join),
    st.lists(st.integers(1, 150), max_size=30),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["any", "newline", "nul"]),
)
def test_any_bytes_give_the_same_messages_however_they_are_cut(
    wire: bytes, cuts: list[int], octet_counting: bool, plain: bool, trailer: Trailer
) -> None:
    pieces, at = [], 0
    for size in cuts:
        pieces.append(wire[at : at + size])
        at += size
    pieces.append(wire[at:])
    whole = read([wire], octet_counting=octet_counting, trailer=trailer)
    assert read(pieces, octet_counting=octet_counting, trailer=trailer, plain=plain) == whole


def test_mutated_streams_are_read_to_their_end() -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    good = b'<13>Oct 11 22:14:15 h app[1]: text\n38 <34>1 - h app - - [a b="c"] text here\n<1>x\0'
    for _ in range(1500):
        wire = bytearray(good * rng.randrange(1, 4))
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(wire))
            if rng.random() < 0.5:
                wire[at] = rng.randrange(256)
            else:
                del wire[at : at + rng.randrange(1, 9)]
                wire[at:at] = rng.randbytes(rng.randrange(4))
        cut = rng.randrange(len(wire) + 1)
        text = bytes(wire)
        assert read([text[:cut], text[cut:]], max_bytes=60) == read([text], max_bytes=60)
