"""`HyperFile`: a container as a file that is read and written at random.

Changes stay with the file until `flush`, which publishes all of them as one checkpoint, or until
`discard`. Readers elsewhere see all of a checkpoint or nothing of it.
"""

from __future__ import annotations

import asyncio
import errno
import io
import random
from dataclasses import replace
from types import TracebackType
from typing import Self, get_args

from hf_agent.clock import Clock
from hf_agent.hyperfile.appender import CommitResult
from hf_agent.hyperfile.errors import MissingObject
from hf_agent.hyperfile.file.arguments import byte_view, check_end, checked_attributes
from hf_agent.hyperfile.file.content import Content
from hf_agent.hyperfile.file.holes import BlockFinder
from hf_agent.hyperfile.file.options import (
    DEFAULT_OPTIONS,
    FileOptions,
    FileStat,
    Mode,
)
from hf_agent.hyperfile.file.overlay import read_through
from hf_agent.hyperfile.file.publisher import Publisher, reach_or_create
from hf_agent.hyperfile.file.ranges import END
from hf_agent.hyperfile.file.states import content_now, open_content
from hf_agent.hyperfile.inode import Inode
from hf_agent.hyperfile.stale import refuse_stale, tells_stale
from hf_agent.store.base import Store

__all__ = ["HyperFile"]


class HyperFile:
    """One open container. Make one with `HyperFile.open`; use it in `async with`, or close it.

    Calls may overlap: those that change something wait for each other, those that read do not.
    """

    def __init__(
        self,
        store: Store,
        key: str,
        mode: Mode,
        *,
        content: Content | None,
        publisher: Publisher | None,
        options: FileOptions,
    ) -> None:
        """Either `content`, for reading, or `publisher`, for both, is given."""
        self._store = store
        self._key = key
        self._mode = mode
        self._reading = content
        self._publisher = publisher
        self._options = options
        self._pinned = False
        self._closed = False
        self._changing = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        store: Store,
        key: str,
        mode: Mode = "r",
        *,
        clock: Clock,
        rng: random.Random,
        checkpoint: int | None = None,
        at_time: float | None = None,
        options: FileOptions = DEFAULT_OPTIONS,
    ) -> HyperFile:
        """Open the container at `key`.

        `r` reads the newest state, or that of a `checkpoint`, or the one of `at_time` (Unix
        seconds). `r+` reads and writes. `w` also makes it empty, with the next flush and not
        before; `a` only adds to its end; both create it when there is none. `x` creates it.
        Every mode can read.

        A mode that writes first finishes a commit that another writer left half done, which may
        take some seconds. Raises `ValueError` for bad arguments, `NoSuchContainer`,
        `ContainerExists` (`x`), `NoSuchCheckpoint`, `ReadOnlyLayout`, `ChecksumError`,
        `FormatError`, and the store's errors.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"the mode is one of r, r+, w, a and x mode={mode!r}")
        pinned = checkpoint is not None or at_time is not None
        if pinned and (mode != "r" or (checkpoint is not None and at_time is not None)):
            raise ValueError(
                "a checkpoint or a time, not both, can be opened for reading "
                f"mode={mode!r} checkpoint={checkpoint} at_time={at_time}"
            )
        if mode == "r":
            content = await open_content(
                store, key, checkpoint=checkpoint, at_time=at_time, options=options
            )
            file = cls(store, key, mode, content=content, publisher=None, options=options)
            file._pinned = pinned
            return file
        publisher = Publisher(store, key, options=options, clock=clock, rng=rng)
        await reach_or_create(publisher, store, key, mode, clock=clock, rng=rng, options=options)
        file = cls(store, key, mode, content=None, publisher=publisher, options=options)
        if mode == "w":
            await file.truncate(0)
        return file

    # -- what it is ---------------------------------------------------------------------------

    @property
    def key(self) -> str:
        """The container's key."""
        return self._key

    @property
    def mode(self) -> Mode:
        """The mode that it was opened in."""
        return self._mode

    @property
    def options(self) -> FileOptions:
        """What it was opened with."""
        return self._options

    @property
    def closed(self) -> bool:
        """Whether it was closed; almost every call is then a `ValueError`."""
        return self._closed

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self._publisher is not None

    @property
    def size(self) -> int:
        """Length of the content in bytes, with unflushed changes."""
        return self._content.size if self._publisher is None else self._publisher.dirty.size

    @property
    def inode(self) -> Inode:
        """The inode of the state that the file is based on, without unflushed changes."""
        return self._content.inode

    @property
    def checkpoint(self) -> int:
        """Number of the checkpoint that the file is based on; 0 when there is none yet."""
        return self._content.inode.last_cno

    @property
    def dirty(self) -> bool:
        """Whether there are unflushed changes."""
        return self._publisher is not None and bool(self._publisher.dirty)

    @property
    def _content(self) -> Content:
        content = self._reading if self._publisher is None else self._publisher.content
        assert content is not None
        return content

    def stat(self) -> FileStat:
        """Size, owner, mode and times as they will be flushed; the rest as it was."""
        self._check_open()
        stat = FileStat.of(self._content.inode)
        if self._publisher is None:
            return stat
        return replace(stat, size=self.size, **self._publisher.dirty.attributes)

    # -- reading ------------------------------------------------------------------------------

    @tells_stale
    async def pread(self, offset: int, length: int) -> bytes:
        """Bytes `[offset, offset + length)`, cut at the end of the file; holes are zeros.

        Raises `ValueError` for negative arguments or a closed file, `StaleVersion` when the
        container has moved on and objects of this version were removed, `ChecksumError`,
        `FormatError`, and the store's errors.
        """
        self._check_open()
        if offset < 0 or length < 0:
            raise ValueError(f"a range has no negative ends {offset=} {length=}")
        length = max(min(length, self.size - offset), 0)
        publisher = self._publisher
        if publisher is None:
            return await self._content.read(offset, length)
        return await read_through(
            publisher.content, publisher.dirty, publisher.ahead, offset, length
        )

    @tells_stale
    async def seek_data(self, offset: int) -> int:
        """The first offset from `offset` on where there is data, in steps of blocks.

        Raises `OSError(ENXIO)` when there is none before the end of the file, as lseek(2) does,
        `ValueError` for a negative offset or a closed file, and as `pread`.
        """
        index, size = self._start_of_seek(offset), self.size
        found = await self._finder().next_data(index) * self._block_size
        if found >= size:
            raise OSError(errno.ENXIO, f"there is no data from offset {offset} on key={self._key}")
        return max(found, offset)

    @tells_stale
    async def seek_hole(self, offset: int) -> int:
        """The first offset from `offset` on where there is a hole, in steps of blocks; the end of
        the file counts as one. Raises as `seek_data`."""
        index, size = self._start_of_seek(offset), self.size
        found = await self._finder().next_hole(index) * self._block_size
        return max(min(found, size), offset)

    def _start_of_seek(self, offset: int) -> int:
        self._check_open()
        if offset < 0:
            raise ValueError(f"an offset is not negative {offset=}")
        if offset >= self.size:
            raise OSError(errno.ENXIO, f"offset {offset} is past the end key={self._key}")
        return offset // self._block_size

    def _finder(self) -> BlockFinder:
        publisher = self._publisher
        if publisher is None:
            return BlockFinder(self._content, None, None)
        return BlockFinder(publisher.content, publisher.dirty, publisher.ahead)

    # -- changing -----------------------------------------------------------------------------

    @tells_stale
    async def pwrite(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Write `data` at `offset`; returns its length. What lies between the end of the file and
        `offset` becomes a hole. With mode `a`, only the end of the file can be written to.

        Do not change `data` before this returns. When it raises because of the store, a part of it
        may have been taken: write it again. Raises `ValueError` for a negative offset or a closed
        file, `io.UnsupportedOperation` for a file that is not open for writing, `OSError(EFBIG)`
        past 2^63-1, `CheckpointTooLarge`, `StaleVersion`, `FormatError`, and the store's errors.
        """
        publisher, view = self._check_writable(), byte_view(data)
        check_end(offset, len(view), key=self._key)
        async with self._changing:
            self._check_open()
            if self._mode == "a" and offset != self.size:
                raise io.UnsupportedOperation(
                    f"a file opened with mode a is written to at its end offset={offset}"
                )
            await publisher.settle()
            await self._write(publisher, offset, view)
        return len(view)

    @tells_stale
    async def append(self, data: bytes | bytearray | memoryview) -> int:
        """Write `data` at the end of the file; returns the offset where it begins.

        Raises as `pwrite`.
        """
        publisher, view = self._check_writable(), byte_view(data)
        async with self._changing:
            self._check_open()
            await publisher.settle()
            offset = self.size
            check_end(offset, len(view), key=self._key)
            await self._write(publisher, offset, view)
        return offset

    async def _write(self, publisher: Publisher, offset: int, view: memoryview) -> None:
        size = self._block_size
        if len(view) == 0:
            return
        publisher.check_room((offset + len(view) - 1) // size - offset // size + 1)
        step = max(self._options.dirty_bytes // 4 // size, 1) * size
        while view:
            # In pieces that end where blocks do: memory is bounded, however much is written.
            piece = view[: step - offset % size]
            end = offset + len(piece)
            await publisher.take_back(*{at // size for at in (offset, end) if at % size})
            publisher.drop(offset // size, -(-end // size))
            publisher.dirty.write(offset, piece)
            await publisher.write_ahead()
            offset, view = end, view[len(piece) :]

    @tells_stale
    async def zero(self, offset: int, length: int) -> None:
        """Make `[offset, offset + length)` read as zeros, as if they had been written; whole
        blocks become holes, which take up nothing. A file that ends before is made longer.

        Raises as `pwrite`.
        """
        publisher = self._check_writable()
        if length < 0:
            raise ValueError(f"a length is not negative {length=}")
        check_end(offset, length, key=self._key)
        async with self._changing:
            self._check_open()
            if self._mode == "a" and offset < self.size:
                raise io.UnsupportedOperation(
                    f"a file opened with mode a is written to at its end offset={offset}"
                )
            if length == 0:
                return
            await publisher.settle()
            size, end = self._block_size, offset + length
            first, last = -(-offset // size), end // size
            if first >= last:
                middle = min(first * size, end)
                await self._write(publisher, offset, memoryview(bytes(middle - offset)))
                await self._write(publisher, middle, memoryview(bytes(end - middle)))
                return
            await self._write(publisher, offset, memoryview(bytes(first * size - offset)))
            publisher.clear(first, last)
            publisher.dirty.grow(last * size)
            await self._write(publisher, last * size, memoryview(bytes(end - last * size)))

    @tells_stale
    async def truncate(self, size: int) -> None:
        """Make the file `size` bytes long: what is behind is cut off, what is new is a hole.

        Raises as `pwrite`.
        """
        publisher = self._check_writable()
        check_end(size, 0, key=self._key)
        async with self._changing:
            self._check_open()
            if size == self.size:
                return
            await publisher.settle()
            if size > self.size:
                publisher.dirty.grow(size)
                return
            index, inside = divmod(size, self._block_size)
            if inside:
                await publisher.take_back(index)
            publisher.drop(index, END)
            publisher.dirty.shrink(size)

    def set_attributes(
        self,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        """Set owner, mode and times (Unix nanoseconds), with the next flush.

        A `mode` without a file type keeps the type that there is. Without `mtime_ns`, the time of
        a flush that changes content becomes the mtime. Raises `ValueError` for values that an
        inode does not hold, `io.UnsupportedOperation` for a file not open for writing.
        """
        publisher = self._check_writable()
        self._check_idle()
        if publisher.committing:
            raise io.UnsupportedOperation(f"a flush has not ended: flush again key={self._key}")
        publisher.dirty.attributes.update(
            checked_attributes(
                self._content.inode.mode,
                mode=mode,
                uid=uid,
                gid=gid,
                atime_ns=atime_ns,
                mtime_ns=mtime_ns,
            )
        )

    # -- publishing ---------------------------------------------------------------------------

    @tells_stale
    async def flush(self) -> CommitResult | None:
        """Publish all changes as one checkpoint; None when there are none. Done once this returns.

        After a `StoreRetry` or `StoreRefused`, or after it was cancelled, call it again: nothing
        is written twice. Until then it is open whether readers see the changes.

        When another writer came first: `ConflictError`, with `on_conflict="fail"`. The changes are
        still there to be read; `discard` and `refresh` go to the other writer's state. With
        `retry`, the changes are put on top of that state. Bytes that were written or zeroed here
        win, all others are the other writer's, also within one block. The size is the larger of
        the two, unless this file was made shorter: then its own size wins, and what the other
        writer put behind the cut is gone. Attributes that were set here win.

        Also raises `NoSuchContainer` when it was removed, `CheckpointsExhausted`,
        `CheckpointTooLarge`, `StaleVersion`, `FormatError`, and the store's errors.
        """
        self._check_open()
        publisher = self._publisher
        if publisher is None:
            return None
        async with self._changing:
            self._check_open()
            return await publisher.flush()

    def discard(self) -> None:
        """Forget all changes since the last flush.

        A flush that raised may have got through all the same: `refresh` tells.
        """
        publisher = self._check_writable()
        self._check_idle()
        publisher.discard()

    async def refresh(self) -> bool:
        """Go to the newest state; returns whether that is another one than before.

        A file opened at a checkpoint stays there. Raises `io.UnsupportedOperation` while there are
        unflushed changes, `NoSuchContainer`, `FormatError`, and the store's errors.
        """
        self._check_open()
        publisher = self._publisher
        if publisher is None:
            if self._pinned:
                return False
            before = self._content
            self._reading = await content_now(
                *(self._store, self._key), before=before, options=self._options
            )
            return self._reading is not before
        async with self._changing:
            self._check_open()
            if publisher.dirty:
                raise io.UnsupportedOperation(
                    f"there are unflushed changes: flush or discard them first key={self._key}"
                )
            return await publisher.reach()

    async def close(self) -> None:
        """Flush, then close. Does nothing when it is closed already.

        When the flush raises, the file stays open: close it again, or `abort`.
        """
        if self._closed:
            return
        await self.flush()
        self._closed = True

    async def abort(self) -> None:
        """Close without flushing: changes are lost. Does nothing when it is closed already."""
        if self._closed:
            return
        async with self._changing:
            if self._publisher is not None:
                self._publisher.discard()
                await self._publisher.end()
            self._closed = True

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    # -- checks -------------------------------------------------------------------------------

    async def _refuse_stale(self, missing: MissingObject) -> None:
        inode = self._content.inode
        await refuse_stale(self._store, self._key, inode, missing, pinned=self._pinned)

    @property
    def _block_size(self) -> int:
        return self._content.inode.meta.data_block_size

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError(f"the file is closed key={self._key}")

    def _check_writable(self) -> Publisher:
        self._check_open()
        if self._publisher is None:
            raise io.UnsupportedOperation(f"the file is not open for writing key={self._key}")
        return self._publisher

    def _check_idle(self) -> None:
        if self._changing.locked():
            raise io.UnsupportedOperation(f"a write or a flush is under way key={self._key}")
