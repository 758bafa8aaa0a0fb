"""Finds where msgpack values end, without making objects of them.

Small values are walked through here, header by header. Large ones are left to the C library, which
goes on where it stopped when more bytes have come.
"""

from __future__ import annotations

from typing import Final

import msgpack

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError

__all__ = [
    "BIN_WIDTH",
    "NOT_WHOLE",
    "Skipper",
    "array_length",
    "is_array",
    "is_text",
    "malformed",
    "skip",
    "text_bounds",
]

NOT_WHOLE: Final = -1
"""The bytes end before the value does."""

_INVALID: Final = 0
_FIRST_PIECE: Final = 512
_LARGEST_PIECE: Final = 1 << 20


def malformed(what: str) -> ProtocolError:
    """What the peer sent makes no sense."""
    return ProtocolError(ErrorCode.MALFORMED, what)


def _sizes() -> list[int]:
    """Bytes of a value by its first byte, header included, its length's own bytes not counted."""
    sizes = [1] * 256
    for byte in range(0xA0, 0xC0):
        sizes[byte] = 1 + (byte & 31)
    sizes[0xC1] = _INVALID
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]
    return sizes


_SIZE: Final = _sizes()
_CHILDREN: Final = [
    2 * (byte & 15) if 0x80 <= byte <= 0x8F else byte & 15 if 0x90 <= byte <= 0x9F else 0
    for byte in range(256)
]
BIN_WIDTH: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4}
"""Bytes of a bin's length, by its first byte."""
_TEXT: Final = BIN_WIDTH | {0xD9: 1, 0xDA: 2, 0xDB: 4}
_EXT: Final = {0xC7: 1, 0xC8: 2, 0xC9: 4}
_ARRAY: Final = {0xDC: 2, 0xDD: 4}
_MAP: Final = {0xDE: 2, 0xDF: 4}
_WIDTH: Final = _TEXT | _EXT | _ARRAY | _MAP
"""Bytes of the length behind the first byte, where there is one."""


def skip(data: bytearray | bytes, at: int, end: int) -> int:
    """Where the value at `at` ends; `NOT_WHOLE` if that is behind `end`.

    Walks in Python, header by header: for small values. Raises `ProtocolError` (`malformed`).
    """
    pending = 1
    while pending:
        if at >= end:
            return NOT_WHOLE
        first = data[at]
        width = _WIDTH.get(first)
        if width is None:
            size = _SIZE[first]
            if size == _INVALID:
                raise malformed("a byte that begins no value byte=0xc1")
            at += size
            pending += _CHILDREN[first] - 1
            continue
        if at + 1 + width > end:
            return NOT_WHOLE
        length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
        at += 1 + width
        pending -= 1
        if first in _TEXT:
            at += length
        elif first in _EXT:
            at += 1 + length
        else:
            pending += 2 * length if first in _MAP else length
    return at if at <= end else NOT_WHOLE


def is_text(first: int) -> bool:
    """Whether a value with this first byte is a str or a bin."""
    return 0xA0 <= first <= 0xBF or first in _TEXT


def is_array(first: int) -> bool:
    """Whether a value with this first byte is an array."""
    return 0x90 <= first <= 0x9F or first in _ARRAY


def text_bounds(data: bytearray | bytes, at: int, end: int) -> tuple[int, int] | None:
    """First byte of the str or bin at `at`, and where it ends, be that behind `end` or not.

    None when the header is not whole. Raises `ProtocolError` when it is another value.
    """
    if at >= end:
        return None
    first = data[at]
    if 0xA0 <= first <= 0xBF:
        return at + 1, at + 1 + (first & 31)
    if first not in _TEXT:
        raise malformed("neither str nor bin")
    begin = at + 1 + _TEXT[first]
    if begin > end:
        return None
    return begin, begin + int.from_bytes(data[at + 1 : begin], "big")


def array_length(data: bytearray | bytes, at: int, end: int) -> tuple[int, int] | None:
    """Elements of the array at `at`, and where the first one begins.

    None when the header is not whole. Raises `ProtocolError` when it is another value.
    """
    if at >= end:
        return None
    first = data[at]
    if 0x90 <= first <= 0x9F:
        return first & 15, at + 1
    if first not in _ARRAY:
        raise malformed(f"no array byte=0x{first:02x}")
    begin = at + 1 + _ARRAY[first]
    if begin > end:
        return None
    return int.from_bytes(data[at + 1 : begin], "big"), begin


class Skipper:
    """Finds the end of `values` values that arrive bit by bit. Never looks at a byte twice.

    It holds a copy of what it is fed, for as long as it has not skipped it: a read, or one str.
    """

    def __init__(self, values: int, max_bytes: int) -> None:
        self._left = values
        self._fed = 0
        self._piece = _FIRST_PIECE
        # Room for what is read ahead, too.
        room = max_bytes + _LARGEST_PIECE
        self._unpacker = msgpack.Unpacker(read_size=1024, max_buffer_size=room)

    def end(self, view: memoryview) -> int:
        """Bytes of the values, which `view` begins with; `NOT_WHOLE` when it has not all of them.

        `view` is that of the call before, or one that goes on further. Raises `ProtocolError`.
        """
        unpacker = self._unpacker
        while self._left:
            try:
                unpacker.skip()
            except msgpack.OutOfData:
                if self._fed >= len(view):
                    return NOT_WHOLE
                piece = view[self._fed : self._fed + self._piece]
                unpacker.feed(piece)
                self._fed += len(piece)
                self._piece = min(4 * self._piece, _LARGEST_PIECE)
            except msgpack.StackError as error:
                raise malformed("values are nested deeper than 1024 levels") from error
            except ValueError as error:
                raise malformed("not msgpack") from error
            else:
                self._left -= 1
        end: int = unpacker.tell()
        return end
