"""Request bodies that reach the socket without being joined.

botocore wants bytes or a file; aiohttp writes bytes at once (and warns above 1 MiB), reads files
in a thread pool 64 KiB at a time, and takes chunks as they are from an asynchronous iterable. So a
large body is an object that botocore takes for a file and aiohttp for an iterable. What is still
copied after that is not ours: TLS encrypts into its own buffer, and asyncio before Python 3.12
keeps what the socket would not take at once in a buffer of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from hf_agent.store.buffers import Views, split_views, total_bytes

__all__ = ["UploadBody", "request_body"]

_SMALL_BYTES = 64 * 1024
_CHUNK_BYTES = 256 * 1024
_TINY_BYTES = 16 * 1024


class UploadBody:
    """Byte views as a body of known, non-zero length that can be sent more than once."""

    def __init__(self, views: Views, progress: Callable[[], None]) -> None:
        self.views = views
        self.sha256 = ""
        """In hexadecimal digits, once somebody has made it."""
        self._length = total_bytes(views)
        self._progress = progress
        self._position = 0

    def __len__(self) -> int:
        return self._length

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> memoryview:
        """Up to `size` bytes from one of the views; empty at the end.

        Only called to hash a body for its signature, over plain HTTP, when `sha256` is not known.
        """
        skip = self._position
        for view in self.views:
            if skip < view.nbytes:
                piece = view[skip:] if size < 0 else view[skip : skip + size]
                self._position += piece.nbytes
                return piece
            skip -= view.nbytes
        return memoryview(b"")

    def __aiter__(self) -> _Chunks:
        return _Chunks(self.views, self._progress)


class _Chunks:
    """The views in pieces small enough for the transport to push back between two of them."""

    def __init__(self, views: Views, progress: Callable[[], None]) -> None:
        self._pieces = _pieces(views)
        self._progress = progress

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> memoryview:
        self._progress()
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration


def _pieces(views: Views) -> Iterator[memoryview]:
    """Pieces of up to `_CHUNK_BYTES`. Very small views are joined: a call for each of them would
    take longer than the copy."""
    joined: list[memoryview] = []
    held = 0
    for view in views:
        if joined and (view.nbytes > _TINY_BYTES or held + view.nbytes > _CHUNK_BYTES):
            yield memoryview(b"".join(joined))
            joined, held = [], 0
        if view.nbytes <= _TINY_BYTES:
            joined.append(view)
            held += view.nbytes
        else:
            for run in split_views([view], _CHUNK_BYTES):
                yield from run
    if joined:
        yield memoryview(b"".join(joined))


def request_body(views: Views, progress: Callable[[], None]) -> bytes | UploadBody:
    """A body for botocore; `progress` is called each time another piece of it is wanted.

    Small bodies are joined: that is cheaper than anything else, and goes out in one segment with
    the head of the request instead of waiting for "100 Continue".
    """
    if total_bytes(views) <= _SMALL_BYTES:
        return b"".join(views)
    return UploadBody(views, progress)
