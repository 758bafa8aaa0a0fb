"""The embedded store: objects are plain files below a root directory, written durably.

It rests on POSIX calls alone, locally or on NFS: `link(2)` fails when the name exists, `rename(2)`
replaces at once, `flock(2)` excludes others and is freed by the kernel when its holder dies.
Reading and creating take no lock. It keeps no user metadata, and it does not watch over its root:
whoever may write there can change objects behind its back. See docs/stores.md.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from hf_agent.clock import Clock
from hf_agent.store.base import Body, ObjectData, ObjectInfo, StoreRetry
from hf_agent.store.buffers import body_views
from hf_agent.store.directory_files import Busy, ObjectFiles, os_errors_mapped
from hf_agent.store.directory_list import Batches, Found, walk
from hf_agent.store.disk import Disk, OsDisk
from hf_agent.store.observer import Observer, Request, coded
from hf_agent.store.ranges import ByteRange

__all__ = ["DirectoryStore"]

_T = TypeVar("_T")

_LIST_BATCH = 512  # entries; a few hundred KiB


class DirectoryStore:
    """A `Store` in a directory, which is created by the first write.

    `threads` bounds how many operations run at once; `lock_patience` is how many seconds
    `replace` and `delete` wait for another process that is just replacing the same object.
    """

    supports_metadata = False

    def __init__(
        self,
        root: Path,
        *,
        clock: Clock,
        rng: random.Random,
        disk: Disk | None = None,
        observer: Observer | None = None,
        threads: int = 8,
        lock_patience: float = 10.0,
    ) -> None:
        self.root = root.absolute()
        self._root = str(self.root)
        self._clock = clock
        self._rng = rng
        self._disk = disk or OsDisk()
        self._observer = observer
        self._lock_patience = lock_patience
        self._files = ObjectFiles(self._root, clock=clock, rng=rng, disk=self._disk)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="hf-store")

    async def get(
        self,
        key: str,
        *,
        start: int | None = None,
        end: int | None = None,
        suffix: int | None = None,
        if_match: str | None = None,
    ) -> ObjectData:
        """See `Store.get`."""
        wanted = ByteRange(start, end, suffix)
        with Request(self._observer, "get"):
            return await self._run(lambda: self._files.read(key, wanted, if_match))

    async def head(self, key: str) -> ObjectInfo:
        """See `Store.head`."""
        with Request(self._observer, "head"):
            nothing = ByteRange(0, 0)
            return (await self._run(lambda: self._files.read(key, nothing, None))).info

    async def create(
        self, key: str, body: Body, *, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.create`. `metadata` is not kept."""
        views = body_views(body)
        with Request(self._observer, "create"):
            return await self._run(lambda: self._files.create(key, views))

    async def replace(
        self, key: str, body: Body, *, etag: str, metadata: Mapping[str, str] | None = None
    ) -> str:
        """See `Store.replace`. `metadata` is not kept."""
        views = body_views(body)
        with Request(self._observer, "replace"):
            return await self._when_free(key, lambda: self._files.replace(key, views, etag))

    async def delete(self, key: str) -> None:
        """See `Store.delete`. Directories that become empty are removed too."""
        with Request(self._observer, "delete"):
            await self._when_free(key, lambda: self._files.delete(key))

    async def list(
        self, prefix: str = "", *, delimiter: str = ""
    ) -> AsyncIterator[ObjectInfo | str]:
        """See `Store.list`. Etags are empty. The observer is called for each batch."""
        if delimiter not in ("", "/"):
            raise ValueError(f"the delimiter is '/' or nothing delimiter={delimiter!r}")
        batches = Batches(walk(self._disk, self._root, prefix, delimiter), _LIST_BATCH)
        try:
            while batch := await self._next(batches):
                now = self._clock.time()
                for item in batch:
                    yield _info(item, now) if isinstance(item, Found) else item
        finally:
            try:
                # In its own time: a batch may still be read for a caller that was cancelled.
                self._threads.submit(batches.close)
            except RuntimeError:
                batches.close()  # the store was closed in the middle of a listing

    async def abort_left_uploads(self, prefix: str, *, before: float) -> int:
        """See `Store.abort_left_uploads`: removes temporary files of writes that never ended."""
        with Request(self._observer, "sweep"):
            return await self._run(lambda: self._files.sweep(prefix, before))

    async def close(self) -> None:
        """See `Store.close`. What still runs comes to its end; nothing new is begun."""
        self._threads.shutdown(wait=False)

    async def _next(self, batches: Batches) -> Sequence[Found | str]:
        def take() -> Sequence[Found | str]:
            with os_errors_mapped("listing objects", self._root):
                return batches.take()

        with Request(self._observer, "list"):
            return await self._run(take)

    async def _when_free(self, key: str, call: Callable[[], _T]) -> _T:
        """Call until nobody else holds the object's lock, for `lock_patience` seconds."""
        deadline = self._clock.monotonic() + self._lock_patience
        while True:
            try:
                return await self._run(call)
            except Busy as busy:
                if self._clock.monotonic() >= deadline:
                    raise coded(
                        StoreRetry(
                            "another process holds the lock of the object; is it stopped? "
                            f"key={key!r} waited={self._lock_patience:g}s"
                        ),
                        "EWOULDBLOCK",
                    ) from busy
            await self._clock.sleep(self._rng.uniform(0.001, 0.02))

    async def _run(self, call: Callable[[], _T]) -> _T:
        """Call in a thread of the store's own: a slow disk may not hold up anything else.

        A cancelled caller does not wait for the thread, which cleans up after itself.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def _info(found: Found, now: float) -> ObjectInfo:
    return ObjectInfo(found.key, found.size, "", found.mtime, now, {})
