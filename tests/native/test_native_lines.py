"""The loop in C writes what Python writes one by one, or leaves it to Python."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import re
import struct
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

import msgpack
import msgspec
import pytest

from hf_agent.ingest.forward.json_line import JsonLine
from hf_agent.ingest.forward.native_lines import NativeLines
from hf_agent.ingest.forward.one_entry import parse_entry
from hf_agent.ingest.forward.plain_lines import PlainLines
from hf_agent.native import Native, native
from support.entry_bytes import plain_entry, slow_lines, strange_value, with_header

SOURCES = Path(__file__).parents[2] / "agent" / "native"
SEEDS = 3000
BINARY64 = struct.Struct(">d")

compiled = pytest.mark.skipif(native is None, reason="the loops in C were not compiled")


def module_of(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check = module_of(Path(__file__).parent / "check_lines.py").check


def values(packed: list[bytes]) -> list[bytes | None]:
    """How each packed value stands in a line; None: left to Python."""
    lines = NativeLines("", "")
    texts = [lines.of([b"\x92\x00\x81\xa1v" + value], [1], b"") for value in packed]
    return [text and text.removeprefix(b'{"v":').removesuffix(b"}\n") for text in texts]


def doubles(numbers: list[float]) -> None:
    """Assert that they are written as msgspec writes them, who needs the same digits."""
    entries = b"".join(b"\x92\x00\x81\xa1v\xcb" + BINARY64.pack(number) for number in numbers)
    text = NativeLines("", "").of([entries], [len(numbers)], b"")
    assert text is not None
    for number, line in zip(numbers, text.splitlines(), strict=True):
        written = line[5:-1]
        assert written == msgspec.json.encode(number), number.hex()
        assert BINARY64.pack(float(written)) == BINARY64.pack(number)


# Against Python.


@pytest.mark.parametrize("make", [pytest.param(NativeLines, marks=compiled), PlainLines])
def test_whatever_comes_the_lines_are_those_made_one_by_one(make: type[NativeLines]) -> None:
    first = random.SystemRandom().randrange(2**32)
    print("first seed", first)
    made = sum(check(make, seed) for seed in range(first, first + SEEDS))
    assert made > SEEDS // 50, "hardly any were made at all"


@compiled
def test_entries_that_json_can_say_are_all_made_by_it() -> None:
    lines = NativeLines("@timestamp", "tag")
    for seed in range(500):
        rng = random.Random(seed)
        keys = [f"key{index}" for index in range(rng.randrange(20))]
        entries = b"".join(plain_entry(rng, keys) for _ in range(5))
        text = lines.of([entries], [5], b"t")
        assert text is not None, seed
        assert text == slow_lines("@timestamp", "tag", entries, 5, b"t"), seed


@compiled
def test_what_is_out_of_the_ordinary_is_left_to_python() -> None:
    rng = random.Random(1)
    entries = [b"\x92\x00\x81\xa1k" + strange_value(rng) for _ in range(300)]
    lines = NativeLines("time", "")
    assert [lines.of([entry], [1], b"") for entry in entries] == [None] * len(entries)


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(b"\x92\x00\x82\xa1a\x01\xa1a\x02", id="a key twice"),
        pytest.param(b"\x92\x00\x83\xa1a\x01\xa1b\x02\xa1a\x03", id="a key twice, apart"),
        pytest.param(b"\x92\x00\x81\xa2$a\x01", id="a key with a dollar"),
        pytest.param(b"\x92\x00\x81\xa4time\x01", id="the time's key"),
        pytest.param(b"\x92\x00\x81\x01\x02", id="a key that is no text"),
        pytest.param(b"\x92\xcb" + BINARY64.pack(0.5) + b"\x80", id="a time with a fraction"),
        pytest.param(b"\x92\xff\x80", id="a time before 1970"),
        pytest.param(b"\x92\xcf" + (253_402_300_800).to_bytes(8, "big") + b"\x80", id="year 10000"),
        pytest.param(b"\x92\xd7\x00" + struct.pack(">II", 1, 10**9) + b"\x80", id="a full second"),
        pytest.param(b"\x92\xd7\x01" + bytes(8) + b"\x80", id="another ext type"),
        pytest.param(b"\x92\xc7\x07\x00" + bytes(7) + b"\x80", id="a short EventTime"),
        pytest.param(b"\x92\x92\x00\x80\x80", id="metadata"),
        pytest.param(b"\x91\x00", id="no record"),
        pytest.param(b"\x93\x00\x80\x80", id="three"),
        pytest.param(b"\x92\x00\x90", id="a record that is no map"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x92\x00\x80\x92\x00\x80", id="one more"),
    ],
)
@compiled
def test_so_is(entry: bytes) -> None:
    assert NativeLines("time", "").of([entry], [1], b"") is None


@compiled
def test_keys_are_looked_at_again_when_they_change_after_the_first_record() -> None:
    lines = NativeLines("time", "")
    good = b"\x92\x00\x82\xa1a\x01\xa1b\x02"
    for bad in (
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\xa4time\x01\xa1b\x02",
        b"\x82\xa1a\x01\xa2$b\x02",
    ):
        assert lines.of([good + b"\x92\x00" + bad], [2], b"") is None
        assert lines.of([good, b"\x92\x00" + bad], [1, 1], b"") is None
    # Fewer keys, and then more: b twice, of which the second stands where c stood.
    three = b"\x92\x00\x83\xa1a\x01\xa1b\x02\xa1c\x03"
    assert lines.of([three + good + b"\x92\x00\x83\xa1a\x01\xa1b\x02\xa1b\x03"], [3], b"") is None


@compiled
def test_entries_that_are_cut_anywhere_are_left_to_python() -> None:
    rng = random.Random(2)
    lines = NativeLines("time", "")
    for _ in range(50):
        entry = plain_entry(rng, ["a", "b", "c"])
        if len(entry) < 2000:
            assert not any(lines.of([entry[:end]], [1], b"") for end in range(len(entry)))


@compiled
def test_maps_and_arrays_are_followed_to_a_limit() -> None:
    deep = [b"\x91" * levels + b"\x01" for levels in (31, 32, 33, 100_000)]
    assert [value is not None for value in values(deep)] == [True, True, False, False]
    maps = [b"\x81\xa1k" * levels + b"\xc0" for levels in (32, 33)]
    assert [value is not None for value in values(maps)] == [True, False]


@compiled
def test_records_and_maps_of_many_keys_are_taken_to_a_limit() -> None:
    lines = NativeLines("time", "")
    for count in (65, 256, 257):
        keys = b"".join(b"\xa3%03d\x01" % number for number in range(count))
        assert (lines.of([b"\x92\x00" + with_header(0xDE, count, keys)], [1], b"") is None) == (
            count > 256
        )
        assert (values([with_header(0xDE, count, keys)])[0] is None) == (count > 256)
    twice = b"".join(b"\xa3%03d\x01" % (number % 255) for number in range(256))
    assert values([with_header(0xDE, 256, twice)]) == [None]
    assert lines.of([b"\x92\x00" + with_header(0xDE, 256, twice)], [1], b"") is None


@compiled
def test_a_length_that_nothing_follows_costs_nothing() -> None:
    huge = [with_header(first, 2**32 - 1) for first in (0xC6, 0xDB, 0xDD, 0xDF)]
    assert values(huge) == [None] * 4


# Numbers.


@compiled
def test_any_double_is_written_with_the_digits_that_it_needs() -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    rng = random.Random(seed)
    bits = [rng.getrandbits(64) for _ in range(100_000)]
    doubles(
        [number for one in bits if math.isfinite(number := BINARY64.unpack(one.to_bytes(8))[0])]
    )
    doubles([rng.uniform(-1000, 1000) for _ in range(50_000)])
    doubles([round(rng.uniform(0, 10**6), rng.randrange(7)) for _ in range(50_000)])
    doubles([float(rng.getrandbits(rng.randrange(1, 64))) for _ in range(20_000)])


@compiled
def test_so_are_those_beside_each_power_of_two_and_of_ten() -> None:
    powers = [*(math.ldexp(1.0, power) for power in range(-1074, 1024))]
    powers += [float(f"1e{power}") for power in range(-323, 309)]
    near = [
        sign * other
        for power in powers
        for other in (power, math.nextafter(power, 0), math.nextafter(power, math.inf))
        for sign in (1, -1)
    ]
    doubles([number for number in near if math.isfinite(number)])
    doubles([sys.float_info.max, sys.float_info.min, 5e-324, 0.0, -0.0, 2**53 + 1.0, 9.5e-5])


@compiled
def test_a_short_float_is_the_double_that_it_stands_for() -> None:
    rng = random.Random(3)
    packed = [b"\xca" + rng.randbytes(4) for _ in range(2000)]
    numbers = [struct.unpack(">f", value[1:])[0] for value in packed]
    texts = values(packed)
    for number, text in zip(numbers, texts, strict=True):
        assert text == (msgspec.json.encode(number) if math.isfinite(number) else None)


@compiled
def test_integers_of_any_width_are_written_with_all_their_digits() -> None:
    rng = random.Random(4)
    edges = [
        base + step for bits in range(65) for base in (2**bits, -(2**bits)) for step in (-1, 0, 1)
    ]
    edges += [10**power + step for power in range(20) for step in (-1, 0)]
    numbers = [number for number in edges if -(2**63) <= number < 2**64]
    numbers += [rng.getrandbits(rng.randrange(1, 65)) for _ in range(2000)]
    assert values([msgpack.packb(number) for number in numbers]) == [
        str(number).encode() for number in numbers
    ]


def test_the_table_of_powers_of_ten_is_what_exact_arithmetic_gives() -> None:
    script = module_of(SOURCES / "powers_of_ten.py")
    assert (SOURCES / "powers_of_ten.h").read_text() == script.header()
    assert "\n    {0x8000000000000000, 0x0000000000000000}, /* 0 */\n" in script.header()


# Texts.


@compiled
def test_each_byte_is_valid_in_just_the_places_where_utf_8_has_it() -> None:
    rng = random.Random(5)
    pairs = [bytes((one, two)) for one in range(256) for two in range(256)]
    leads = bytes((0x7F, 0x80, 0xC1, 0xC2, *range(0xDF, 0xF6), 0xFF))
    edges = bytes((0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF))
    threes = [bytes((one, two, three)) for one in leads for two in edges for three in edges]
    fours = [three + bytes((four,)) for three in threes for four in edges]
    for text in [*pairs, *threes, *fours]:
        at = rng.randrange(12)
        data = b"." * at + text + b"." * rng.randrange(12)
        written = values([with_header(0xDA, len(data), data)])[0]
        try:
            assert written == msgspec.json.encode(data.decode())
        except UnicodeDecodeError:
            assert written is None


@compiled
def test_texts_are_the_same_wherever_a_block_of_them_ends() -> None:
    for size in (4080, 4090, 4096, 4100, 8190):
        for odd in ("é", "日", "😀", '"', "\n", "\x01"):
            for before in range(size - 6, size + 7):
                data = ("x" * before + odd + "y" * 20).encode()
                assert values([with_header(0xDA, len(data), data)])[0] == msgspec.json.encode(
                    data.decode()
                )
    all_odd = "\x01" * 20_000
    assert values([with_header(0xDA, 20_000, all_odd.encode())])[0] == msgspec.json.encode(all_odd)


# Times.


@compiled
def test_every_day_has_its_date() -> None:
    days = [*range(0, 2_932_897, 97), *range(11_000, 11_800), *range(47_400, 47_700), 2_932_896]
    lines = NativeLines("time", "")
    entries = b"".join(b"\x92" + msgpack.packb(day * 86400 + day % 86400) + b"\x80" for day in days)
    text = lines.of([entries], [len(days)], b"")
    assert text is not None
    for day, line in zip(days, text.splitlines(), strict=True):
        at = datetime.fromtimestamp(day * 86400 + day % 86400, UTC)
        assert json.loads(line) == {"time": f"{at:%Y-%m-%dT%H:%M:%S}.000000000Z"}


@compiled
def test_times_that_go_back_and_forth_are_each_their_own() -> None:
    rng = random.Random(6)
    entries = [
        b"\x92\xd7\x00" + struct.pack(">II", rng.choice((0, 1, 59, 60, 2**32 - 1)), nanos) + b"\x80"
        for nanos in (0, 1, 999_999_999, 100_000_000, 90) * 20
    ]
    line = JsonLine("time", "")
    text = NativeLines("time", "").of([b"".join(entries)], [len(entries)], b"")
    assert text == b"".join(line.of(parse_entry(entry), b"", b"") for entry in entries)


# What it is called with.


@compiled
def test_a_mistake_of_its_caller_is_told() -> None:
    assert native is not None
    with pytest.raises(ValueError, match="a count for each message"):
        native.json_lines([b""], [], b"{", False, b"", ())
    with pytest.raises(ValueError, match="too many keys"):
        native.json_lines([], [], b"{", False, b"", (b"a", b"b", b"c"))
    with pytest.raises(OverflowError):
        native.json_lines([b""], [-1], b"{", False, b"", ())
    with pytest.raises(TypeError):
        native.json_lines(["text"], [0], b"{", False, b"", ())  # type: ignore[list-item]
    with pytest.raises(TypeError):
        native.json_lines([b""], [0], b"{", False, b"", ("key",))  # type: ignore[arg-type]
    assert native.json_lines([], [], b"{", False, b"", ()) == b""


@compiled
def test_buffers_are_given_back() -> None:
    assert native is not None
    data = bytearray(b"\x92\x00\x80" * 20_000)
    for count in (20_000, 3):
        native.json_lines([memoryview(data)], [count], b"{", False, b"", ())
    native.count_newlines(data, 0, len(data))
    data.append(0)  # refused to an array that has views


@compiled
def test_newlines_are_counted_in_any_part_of_the_data() -> None:
    assert native is not None
    rng = random.Random(7)
    for density in (0.0, 0.01, 0.5, 1.0):
        data = bytearray(rng.choices((10, 11), (density, 1 - density), k=70_000))
        for _ in range(50):
            start, end = sorted((rng.randrange(70_001), rng.randrange(70_001)))
            assert native.count_newlines(data, start, end) == data.count(b"\n", start, end)
    for start, end in ((-1, 1), (2, 1), (0, 70_001)):
        with pytest.raises(ValueError, match="in the data"):
            native.count_newlines(data, start, end)


def test_each_of_its_functions_is_in_the_protocol_that_the_package_knows() -> None:
    names = set(re.findall(r'^    \{"(\w+)", ', (SOURCES / "module.c").read_text(), re.M))
    assert names == {name for name in vars(Native) if not name.startswith("_")}
    assert names == {"json_lines", "count_newlines"}
