"""CRC-32C of equal blocks that come one behind the other, in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterator

from crc32c import crc32c

__all__ = ["BlockChecksums"]


class BlockChecksums:
    """Holds no bytes: what it was fed may be dropped at once."""

    def __init__(self, block_size: int) -> None:
        self._size = block_size
        self._filled = 0
        self._crc = 0

    def feed(self, data: bytes | memoryview) -> Iterator[int]:
        """Take the next bytes; gives the checksum of each block that ends in them, in order.

        Use it up: what is not iterated over is not taken.
        """
        view, at = memoryview(data), 0
        while at < len(view):
            piece = view[at : at + self._size - self._filled]
            self._crc = crc32c(piece, self._crc)
            self._filled += len(piece)
            at += len(piece)
            if self._filled == self._size:
                yield self._crc
                self._crc = self._filled = 0
