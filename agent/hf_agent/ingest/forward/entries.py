"""The stream of entries in a message: `[time, record]`, one behind the other, told apart here only.

Whoever takes them takes slices of whole entries, so that a large message neither needs its size in
objects nor holds up the rest of the agent.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import msgpack

from hf_agent.ingest.append_errors import ProtocolError
from hf_agent.ingest.forward.scan import malformed

__all__ = [
    "Slice",
    "array_of",
    "check_count",
    "count_entries",
    "one_by_one",
    "slices",
    "split",
    "wrong_size",
]

_ARRAY16: Final = struct.Struct(">BH")
_ARRAY32: Final = struct.Struct(">BI")
_LITTLE: Final = 4096


class Slice(NamedTuple):
    """Whole entries."""

    data: memoryview | bytes
    number: int
    """How many."""


def array_of(slice_: Slice) -> bytes:
    """The entries as one msgpack array, with the shortest header."""
    data, count = slice_
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 1 << 16:
        head = _ARRAY16.pack(0xDC, count)
    else:
        head = _ARRAY32.pack(0xDD, count)
    return b"".join((head, data))


def count_entries(data: memoryview | bytes) -> int:
    """How many entries there are. Raises `ProtocolError` when the last one is not whole."""
    count, end = _whole(data)
    if end != len(data):
        raise malformed("entries end inside an entry")
    return count


def check_count(slice_: Slice) -> None:
    """Raise `ProtocolError` if there are not as many entries as was said, each of them whole."""
    count = count_entries(slice_.data)
    if count != slice_.number:
        raise wrong_size(slice_.number, count)


def wrong_size(said: int, found: int) -> ProtocolError:
    """The option `size` is not the number of entries."""
    return malformed(f"option size is not the number of entries size={said} entries={found}")


def one_by_one(slice_: Slice) -> Iterator[bytes]:
    """Each of the entries, of which each is whole."""
    data, count = slice_
    unpacker = _unpacker(data)
    begin = 0
    for _ in range(count):
        unpacker.skip()
        end = unpacker.tell()
        yield bytes(data[begin:end])
        begin = end


def split(slice_: Slice, first: int) -> tuple[Slice, Slice]:
    """The `first` entries and those behind, of entries that are all whole."""
    data, count = slice_
    unpacker = _unpacker(data)
    for _ in range(first):
        unpacker.skip()
    end = unpacker.tell()
    return Slice(data[:end], first), Slice(data[end:], count - first)


def slices(pieces: Iterable[memoryview | bytes]) -> Iterator[Slice]:
    """Whole entries, one slice for each piece or, where an entry is longer, for several.

    Raises `ProtocolError` when the last entry is not whole, or something is not msgpack.
    """
    rest: list[memoryview | bytes] = []
    size = look_at = 0
    for piece in pieces:
        rest.append(piece)
        size += len(piece)
        if size < look_at:
            continue
        data = piece if len(rest) == 1 else b"".join(rest)
        count, end = _whole(data)
        if count:
            yield Slice(data[:end], count)
        rest = [data[end:]] if end < size else []
        size -= end
        # A long entry is not looked through again for each piece that it gets.
        look_at = 2 * size if not count else 0
    if not size:
        return
    data = b"".join(rest)
    count, end = _whole(data)
    if end < size:
        raise malformed("entries end inside an entry")
    yield Slice(data, count)


def _whole(data: memoryview | bytes) -> tuple[int, int]:
    """How many whole entries `data` begins with, and where they end."""
    unpacker = _unpacker(data)
    skip, tell = unpacker.skip, unpacker.tell
    count = end = 0
    try:
        while True:
            skip()
            end = tell()
            count += 1
    except msgpack.OutOfData:
        return count, end
    except msgpack.StackError as error:
        raise malformed(f"entry is nested deeper than 1024 levels entry={count}") from error
    except ValueError as error:
        raise malformed(f"entry is not msgpack entry={count}") from error


def _unpacker(data: memoryview | bytes) -> msgpack.Unpacker:
    room = len(data) + _LITTLE
    unpacker = msgpack.Unpacker(read_size=min(room, _LITTLE), max_buffer_size=room)
    unpacker.feed(data)
    return unpacker
