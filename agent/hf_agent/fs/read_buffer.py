"""A container as fsspec opens it for reading: buffered, and of one checkpoint while it is open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.asyn import sync
from fsspec.spec import AbstractBufferedFile

from hf_agent.fs.errors import os_errors

if TYPE_CHECKING:
    from hf_agent.fs.filesystem import HyperfileFileSystem
    from hf_agent.hyperfile import HyperFile

__all__ = ["ReadBuffer"]


class ReadBuffer(AbstractBufferedFile):  # type: ignore[misc]
    """Reads an open `HyperFile` through one of fsspec's caches."""

    def __init__(self, fs: HyperfileFileSystem, path: str, file: HyperFile, **options: Any) -> None:
        self._file = file
        super().__init__(fs, path, mode="rb", size=file.size, **options)

    @property
    def checkpoint(self) -> int:
        """Number of the checkpoint that is read."""
        return self._file.checkpoint

    def _fetch_range(self, start: int, end: int) -> bytes:
        with os_errors(self.path):
            data: bytes = sync(self.fs.loop, self._file.pread, start, end - start)
        return data

    def close(self) -> None:
        """Close the file; idempotent."""
        if not self.closed:
            super().close()
            sync(self.fs.loop, self._file.close)

    def __del__(self) -> None:
        # The garbage collector may run on the loop itself, which `close` would wait for; and a
        # file that was only read holds nothing that has to be given back.
        pass
