"""An open container as a raw file: buffers, text, `gzip`, `tarfile` and the like sit on it."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hf_agent.hyperfile.blocking.loop_thread import Runner
from hf_agent.hyperfile.read_ahead import ReadAhead

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from hf_agent.hyperfile.appender import CommitResult
    from hf_agent.hyperfile.file.handle import HyperFile
    from hf_agent.hyperfile.file.options import FileStat

__all__ = ["HyperfileIO"]

SEEK_DATA: int = getattr(os, "SEEK_DATA", 3)
SEEK_HOLE: int = getattr(os, "SEEK_HOLE", 4)


class HyperfileIO(io.RawIOBase):
    """A container as an unbuffered binary file. Make one with `hf_agent.hyperfile.open`.

    Reads see what this file has written; the store sees it with the checkpoint that `flush` or
    `close` makes. Wrap it in `io.BufferedReader` or `io.BufferedWriter` for many small calls, and
    call the raw file's `flush` for a checkpoint: a buffer's own `flush` only hands over its bytes.

    Leaving a `with` block by an exception closes without a checkpoint. May be used by several
    threads, one call at a time each; their position is shared.
    """

    def __init__(
        self,
        file: HyperFile,
        name: str,
        loop: Runner,
        on_close: Callable[[], None],
        *,
        mode: str,
        read_ahead_bytes: int = 32 << 20,
    ) -> None:
        """`mode` is one of `modes.plain_mode`."""
        super().__init__()
        self._file = file
        self._loop = loop
        self._read_ahead_bytes = read_ahead_bytes
        self._on_close = on_close
        self._position = file.size if file.mode == "a" else 0
        self._released = False
        self._ahead = self._read_ahead(read_ahead_bytes)
        self.name = name
        """The URI, or path, that it was opened with."""
        self.mode = f"{mode[0]}b{mode[1:]}"
        """As `io.FileIO` shows it: `rb`, `rb+`, `wb`, ..."""
        self._readable = mode[0] == "r" or "+" in mode
        self._writable = mode != "r"

    # -- the file ----------------------------------------------------------------------------

    def readable(self) -> bool:
        """True, but for modes `w`, `a` and `x`."""
        self._check_open()
        return self._readable

    def writable(self) -> bool:
        """False in mode `r` only."""
        self._check_open()
        return self._writable

    def seekable(self) -> bool:
        """True."""
        self._check_open()
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read at the position; fewer bytes than asked for only at the end."""
        view = memoryview(buffer).cast("B")
        self._check_readable()
        start, data = self._ahead.front
        at = self._position - start
        if at >= 0 and at + view.nbytes <= len(data):
            # Read ahead already: the loop need not be asked.
            view[:] = memoryview(data)[at : at + view.nbytes]
            count = view.nbytes
        else:
            count = self._loop.run(self._ahead.read_into(self._position, view))
        self._position += count
        return count

    def readall(self) -> bytes:
        """Read from the position to the end."""
        data = self.pread(self._position, max(self.size - self._position, 0))
        self._position += len(data)
        return data

    def write(self, data: ReadableBuffer) -> int:
        """Write at the position, in mode `a` at the end; returns the number of bytes: all."""
        if self._file.mode == "a":
            view = memoryview(data).cast("B")
            self._position = self.append(view) + view.nbytes
            return view.nbytes
        count = self.pwrite(self._position, data)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position; also to the next data or hole. Returns the new one.

        Raises `OSError`: EINVAL below zero, ENXIO where no data (or no byte) follows.
        """
        self._check_open()
        if whence == SEEK_DATA:
            target = self._loop.run(self._file.seek_data(offset))
        elif whence == SEEK_HOLE:
            target = self._loop.run(self._file.seek_hole(offset))
        else:
            bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}
            if whence not in bases:
                raise ValueError(f"no such whence whence={whence}")
            target = bases[whence] + offset
        if target < 0:
            raise OSError(errno.EINVAL, "the position would be below zero")
        self._position = target
        return target

    def tell(self) -> int:
        """The position, in bytes."""
        self._check_open()
        return self._position

    def truncate(self, size: int | None = None) -> int:
        """Set the length to `size`, or to the position; returns it. The position stays."""
        self._check_writable()
        size = self._position if size is None else size
        self._loop.run(self._file.truncate(size))
        return size

    def flush(self) -> None:
        """Make a checkpoint of all that was written; returns when the store has it."""
        self._check_open()
        if self._writable:
            self._loop.run(self._file.flush())

    def close(self) -> None:
        """Flush and close. Idempotent. When the flush fails, the file is closed all the same."""
        if self.closed:
            return
        try:
            # It calls `flush`; what that raises is raised again when the file is closed.
            super().close()
        finally:
            self._release()

    def abort(self) -> None:
        """Close without a checkpoint: what was not flushed is gone."""
        if not self.closed:
            if self._writable:
                self._file.discard()
            self.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    # -- beyond files ------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Length in bytes, with what was not flushed yet."""
        self._check_open()
        return self._file.size

    @property
    def checkpoint(self) -> int:
        """Number of the checkpoint that this file is based on; 0: none."""
        return self._file.checkpoint

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end; the position stays."""
        self._check_readable()
        return self._loop.run(self._file.pread(offset, length))

    def pwrite(self, offset: int, data: ReadableBuffer) -> int:
        """Write at `offset`; the position stays. Returns the number of bytes: all."""
        self._check_writable()
        return self._loop.run(self._file.pwrite(offset, memoryview(data).cast("B")))

    def append(self, data: ReadableBuffer) -> int:
        """Write at the end; returns the offset that the bytes got. The position stays."""
        self._check_writable()
        return self._loop.run(self._file.append(memoryview(data).cast("B")))

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros, within the file's length."""
        self._check_writable()
        self._loop.run(self._file.zero(offset, length))

    def stat(self) -> FileStat:
        """Length, attributes, times and layout."""
        self._check_open()
        return self._file.stat()

    def set_attributes(self, **attributes: Any) -> None:
        """Change mode, uid, gid, atime_ns or mtime_ns with the next checkpoint."""
        self._check_writable()
        self._file.set_attributes(**attributes)

    def checkpoint_now(self) -> CommitResult | None:
        """As `flush`; says what was made, None when there was nothing to store."""
        self._check_writable()
        return self._loop.run(self._file.flush())

    def discard(self) -> None:
        """Forget what was not flushed."""
        self._check_writable()
        self._file.discard()

    def refresh(self) -> bool:
        """Move to the container's newest state; whether that is another one than before."""
        self._check_open()
        moved = self._loop.run(self._file.refresh())
        if moved:
            self._loop.run(self._ahead.close())
            self._ahead = self._read_ahead(self._read_ahead_bytes)
        return moved

    # -- inside ------------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed file")

    def _read_ahead(self, max_bytes: int) -> ReadAhead:
        # What is written shows at once, so nothing is kept of a file that is.
        changing = self._file.mode != "r"
        return ReadAhead(
            *(self._file.pread, self._file.size),
            max_bytes=0 if changing else max_bytes,
            piece_bytes=self._file.options.request_bytes,
            alignment=self._file.stat().block_size,
        )

    def _check_readable(self) -> None:
        if not self.readable():
            raise io.UnsupportedOperation(f"the file is open for writing only mode={self.mode}")

    def _check_writable(self) -> None:
        if not self.writable():
            raise io.UnsupportedOperation(f"the file is open for reading only mode={self.mode}")

    def _release(self) -> None:
        if not self._released:
            self._released = True
            self._loop.run(self._ahead.close())
            self._on_close()
