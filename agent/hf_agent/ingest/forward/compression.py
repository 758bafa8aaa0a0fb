"""Compressed entries, unpacked piece by piece, with a bound on what comes out.

An input may be several gzip members, or Zstandard frames, one behind the other.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from hf_agent.ingest.append_errors import ErrorCode, ProtocolError
from hf_agent.ingest.forward.scan import malformed

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["COMPRESSIONS", "unpack"]

_INPUT_PIECE: Final = 4 << 10
"""Small: what a member leaves over is copied, and members may be tiny."""
_MAX_MEMBERS: Final = 65_536
_MAX_WINDOW_LOG: Final = 23
"""8 MiB: what all levels but the `ultra` ones need. A frame may ask for gigabytes."""


class _Stream(Protocol):
    """One member, or frame."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        unpacked = self._member.decompress(self._tail + data, max_length)
        self._tail = self._member.unconsumed_tail
        return unpacked


def _zstd() -> _Stream:
    window = {int(zstd.DecompressionParameter.window_log_max): _MAX_WINDOW_LOG}
    return zstd.ZstdDecompressor(options=window)


COMPRESSIONS: Final[dict[str, Callable[[], _Stream]]] = {"gzip": _Gzip, "zstd": _zstd}
"""By the value of the option `compressed`."""


def unpack(
    data: memoryview | bytes, compression: str, *, piece_bytes: int, max_bytes: int
) -> Iterator[bytes]:
    """What `data` holds, in pieces of at most `piece_bytes`.

    Raises `ProtocolError`: `record_too_large` before more than `max_bytes` are out, `malformed`
    for what is not of that compression, or ends too early.
    """
    begin = COMPRESSIONS[compression]
    room = max_bytes
    members = 0
    stream: _Stream | None = None
    left = memoryview(data)
    # What one member left over belongs to the next; a member may give more without any input.
    piece = b""
    hungry = True
    while True:
        if stream is None:
            if not piece and not left:
                return
            members += 1
            if members > _MAX_MEMBERS:
                raise malformed(f"compressed entries have too many members limit={_MAX_MEMBERS}")
            stream = begin()
        if hungry and not piece:
            if not left:
                raise malformed(f"compressed entries end too early compressed={compression}")
            piece, left = bytes(left[:_INPUT_PIECE]), left[_INPUT_PIECE:]
        wanted = min(piece_bytes, room + 1)
        try:
            unpacked = stream.decompress(piece, wanted)
        except (zlib.error, zstd.ZstdError) as error:
            raise malformed(
                f"entries cannot be unpacked: {' '.join(str(error).split())} "
                f"compressed={compression}"
            ) from error
        room -= len(unpacked)
        if room < 0:
            raise ProtocolError(
                ErrorCode.RECORD_TOO_LARGE,
                "chunk unpacks to more than forward.max_unpacked_bytes: raise that, or have the "
                f"peer send smaller chunks limit={max_bytes}",
            )
        if unpacked:
            yield unpacked
        piece = b""
        hungry = len(unpacked) < wanted
        if stream.eof:
            piece, stream, hungry = stream.unused_data, None, True
