"""Entries of protocol `forward` in every form that msgpack allows, and what becomes of them.

Packed byte by byte here, because no library writes a short text with a long header.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.entries import Slice, check_count, one_by_one
from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.one_entry import parse_entry

__all__ = ["plain_entry", "slow_lines", "strange_value", "with_header"]

_TEXTS = (
    *("", "a", "log", "time", "tag", "stream", "$5", "x" * 31, "x" * 32, "y" * 255, "z" * 256),
    *('say "no"', "back\\slash", "line\nand\ttab\r", "\x00\x01\x1f\x7f\b\f", "é", "żółć", "日本語"),
    *(
        "😀" * 3,
        "a" * 7 + "é",
        "a" * 8 + '"',
        "\u2028\ufffd\ud7ff\ue000\U0010ffff",
        "q" * 5000,
        "\x01" * 300,
    ),
)
_INTEGERS = (0, 1, 31, 127, 128, 255, 256, 65535, 65536, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)


_WIDTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
"""Bytes of the length behind the first byte of a str or bin."""
_WIDTHS_OF_MANY = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
"""The same of arrays and maps."""


def with_header(first: int, length: int, data: bytes = b"") -> bytes:
    """A first byte, a length in the bytes that it asks for, and what follows."""
    size = (_WIDTHS | _WIDTHS_OF_MANY)[first]
    return bytes((first,)) + length.to_bytes(size, "big") + data


def _text(rng: random.Random, text: str) -> bytes:
    data = text.encode()
    headers = [first for first, size in _WIDTHS.items() if len(data) < 256**size]
    if len(data) < 32 and rng.random() < 0.7:
        return bytes((0xA0 | len(data),)) + data
    return with_header(rng.choice(headers), len(data), data)


def _integer(rng: random.Random) -> bytes:
    number = rng.choice(_INTEGERS)
    if rng.random() < 0.3:
        number = rng.randrange(2 ** rng.randrange(1, 65))
    if rng.random() < 0.4 and number <= 2**63:
        return _signed(rng, -number)
    widths = [size for size in range(4) if number < 256 ** (1 << size)]
    if number < 128 and rng.random() < 0.5:
        return bytes((number,))
    size = rng.choice(widths)
    return bytes((0xCC + size,)) + number.to_bytes(1 << size, "big")


def _signed(rng: random.Random, number: int) -> bytes:
    if -32 <= number < 0 and rng.random() < 0.5:
        return bytes((number & 0xFF,))
    size = rng.choice([size for size in range(4) if number >= -(256 ** (1 << size)) // 2])
    return bytes((0xD0 + size,)) + number.to_bytes(1 << size, "big", signed=True)


def _float(rng: random.Random) -> bytes:
    number = rng.choice(
        (
            *(0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 123456.75, 1e-4, 1e-5, 1e-6, 5e-324, 1.5e300),
            rng.random(),
            rng.uniform(-1e6, 1e6),
            float(rng.randrange(2**53)),
        )
    )
    if rng.random() < 0.3 and abs(number) < 1e30:
        return b"\xca" + struct.pack(">f", number)
    return b"\xcb" + struct.pack(">d", number)


def _plain_value(rng: random.Random, levels: int) -> bytes:
    kind = rng.randrange(10 if levels else 7)
    if kind < 3:
        return _text(rng, rng.choice(_TEXTS))
    if kind < 5:
        return _integer(rng)
    if kind == 5:
        return _float(rng)
    if kind == 6:
        return rng.choice((b"\xc0", b"\xc2", b"\xc3"))
    count = rng.choice((0, 1, 2, 3, 17))
    if kind == 7:
        values = b"".join(_plain_value(rng, levels - 1) for _ in range(count))
        if count < 16 and rng.random() < 0.7:
            return bytes((0x90 | count,)) + values
        return with_header(rng.choice((0xDC, 0xDD)), count, values)
    return _map(rng, [f"{rng.choice('abc')}{index}" for index in range(count)], levels - 1)


def _map(rng: random.Random, keys: list[str], levels: int) -> bytes:
    pairs = b"".join(_text(rng, key) + _plain_value(rng, levels) for key in keys)
    if len(keys) < 16 and rng.random() < 0.7:
        return bytes((0x80 | len(keys),)) + pairs
    return with_header(rng.choice((0xDE, 0xDF)), len(keys), pairs)


def plain_entry(rng: random.Random, keys: list[str]) -> bytes:
    """An entry of which JSON can say everything as it is, with a time that is an integer."""
    second = rng.choice((0, 1, 951_782_399, 1_700_000_000 + rng.randrange(3), 2**32 - 1))
    nanos = rng.choice((0, 1, 999_999_999, rng.randrange(10**9)))
    pair = struct.pack(">II", second, nanos)
    time = rng.choice(
        (b"\xd7\x00" + pair, b"\xd7\x00" + pair, b"\xc7\x08\x00" + pair, b"\xce" + pair[:4])
    )
    return b"\x92" + time + _map(rng, keys, 3)


def strange_value(rng: random.Random) -> bytes:
    """A value of which it cannot, or that is no msgpack."""
    makers: tuple[Callable[[], bytes], ...] = (
        lambda: b"\xcb" + struct.pack(">d", rng.choice((float("nan"), float("inf")))),
        lambda: b"\xca" + struct.pack(">f", float("-inf")),
        lambda: b"\xa2" + rng.choice((b"\xc0\x80", b"\xff\xfe", b"\xed\xa0", b"\xe9a", b"a\x80")),
        lambda: b"\xa4" + rng.choice((b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"abc\xc3")),
        lambda: b"\xd4\x05x",
        lambda: b"\xd6\xff" + rng.randbytes(4),
        lambda: b"\xc7\x03\x07abc",
        lambda: b"\x82\xa1a\x01\xa1a\x02",
        lambda: b"\x81\x01\x02",
        lambda: b"\x81\xa2$a\x01",
        lambda: b"\x91" * 150 + b"\x01",
        lambda: b"\xc1",
        lambda: b"\xdd\xff\xff\xff\xff",
        lambda: b"\xdb\xff\xff\xff\xff",
        lambda: with_header(0xDE, 257, b"".join(b"\xa3%03d\x01" % n for n in range(257))),
    )
    return rng.choice(makers)()


def slow_lines(time_key: str, tag_key: str, entries: bytes, count: int, tag: bytes) -> bytes | None:
    """The lines, one by one in Python; None when the entries are refused."""
    line = JsonLine(time_key, tag_key)
    slice_ = Slice(entries, count)
    try:
        check_count(slice_)
        return b"".join(line.of(parse_entry(raw), tag, b"") for raw in one_by_one(slice_))
    except ProtocolError:
        return None
