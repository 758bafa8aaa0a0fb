"""Walking through the records of one file, verified, with bounded memory."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.wal.disk import Disk, preadv_all
from hf_agent.wal.handle import Handle
from hf_agent.wal.index import FOOTER_BYTES
from hf_agent.wal.record import ALIGNMENT, HEADER_BYTES, MAGIC, Header, unpack_header

__all__ = ["Found", "RecordScanner"]

_WINDOW = 1 << 20


class Found(NamedTuple):
    """A record header that is valid where it stands."""

    offset: int
    header: Header

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.offset + self.header.total

    @property
    def payload_end(self) -> int:
        """Where its payload ends; nobody needs the padding behind."""
        return self.offset + HEADER_BYTES + self.header.length


class RecordScanner:
    """Reads records of one file through a window of bounded size. Raises `OSError`."""

    def __init__(
        self,
        disk: Disk,
        handle: Handle,
        path: Path,
        seed: int,
        size: int,
        window: int = _WINDOW,
    ) -> None:
        self._disk = disk
        self._handle = handle
        self.path = path
        self.seed = seed
        self.limit = size - FOOTER_BYTES
        """No record reaches beyond this offset: what follows is the footer's place."""
        self._buffer = memoryview(bytearray(min(window, size)))
        self._start = 0
        self._end = 0

    def header(self, offset: int) -> Found | None:
        """The record at `offset` if its header is valid there and it ends within the limit."""
        if offset + HEADER_BYTES > self.limit:
            return None
        header = unpack_header(self.seed, offset, self._view(offset, HEADER_BYTES))
        if header is None:
            return None
        found = Found(offset, header)
        return found if found.payload_end <= self.limit else None

    def payload_is_good(self, found: Found) -> bool:
        """Whether the payload has the checksum that the header tells."""
        crc = 0
        for view in self._views(found.offset + HEADER_BYTES, found.header.length):
            crc = crc32c(view, crc)
        return bool(crc == found.header.payload_crc)

    def payload(self, found: Found) -> bytes:
        """The payload's bytes, unchecked. Only asked for records that are small or single."""
        start = found.offset + HEADER_BYTES
        return b"".join(bytes(view) for view in self._views(start, found.header.length))

    def raw(self, offset: int, length: int) -> bytes:
        """Bytes as they stand in the file, at most up to the limit."""
        data = bytearray(max(0, min(length, self.limit - offset)))
        if not preadv_all(self._disk, self._handle.fd, [memoryview(data)], offset):
            raise self._ended()
        return bytes(data)

    def with_large_window(self) -> RecordScanner:
        """The same file, for reading all of it."""
        size = self.limit + FOOTER_BYTES
        return RecordScanner(self._disk, self._handle, self.path, self.seed, size)

    def footer(self) -> bytes:
        """The bytes from the limit to the end of the file."""
        data = bytearray(FOOTER_BYTES)
        if not preadv_all(self._disk, self._handle.fd, [memoryview(data)], self.limit):
            raise self._ended()
        return bytes(data)

    def behind(self, offset: int) -> Iterator[Found]:
        """All valid headers from `offset` on, wherever they stand: what lies behind a bad place."""
        while offset + HEADER_BYTES <= self.limit:
            length = min(len(self._buffer), self.limit - offset)
            window = bytes(self._view(offset, length))
            at = window.find(MAGIC)
            while at >= 0:
                if (offset + at) % ALIGNMENT == 0 and at + HEADER_BYTES <= length:
                    header = unpack_header(self.seed, offset + at, window[at : at + HEADER_BYTES])
                    if header is not None:
                        yield Found(offset + at, header)
                at = window.find(MAGIC, at + 1)
            # The next window overlaps, so that a header across its edge is seen whole.
            offset += length - HEADER_BYTES + ALIGNMENT if length == len(self._buffer) else length

    def _views(self, start: int, length: int) -> Iterator[memoryview]:
        while length:
            part = min(length, len(self._buffer))
            yield self._view(start, part)
            start += part
            length -= part

    def _view(self, start: int, length: int) -> memoryview:
        if not (self._start <= start and start + length <= self._end):
            want = min(len(self._buffer), self.limit - start)
            if not preadv_all(self._disk, self._handle.fd, [self._buffer[:want]], start):
                raise self._ended()
            self._start, self._end = start, start + want
        at = start - self._start
        return self._buffer[at : at + length]

    def _ended(self) -> OSError:
        return OSError(errno.EIO, "the file ended while it was read", str(self.path))
