"""The file system. Its asynchronous methods run on fsspec's event loop, or on the caller's.

Paths are `bucket/key`, or relative to the URL that `fo` names (`hyperfile://key::file:///dir`).
A folder is what containers' keys have in common up to a '/': it is there while a container is.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
import weakref
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from fsspec.asyn import AsyncFileSystem, sync, sync_wrapper
from fsspec.utils import tokenize

from hf_agent.clock import SystemClock, system_random
from hf_agent.fs.errors import os_errors
from hf_agent.fs.fs_loop import FsLoop
from hf_agent.fs.places import Root, root_url
from hf_agent.fs.ranges import read_ranges, read_slice
from hf_agent.fs.read_buffer import ReadBuffer
from hf_agent.fs.s3_options import s3_options
from hf_agent.fs.write_buffer import write_buffer
from hf_agent.hyperfile import FileOptions, HyperFile, copy, remove, stat_container
from hf_agent.hyperfile.blocking.modes import file_mode, plain_mode
from hf_agent.hyperfile.blocking.raw_file import HyperfileIO
from hf_agent.hyperfile.blocking.stores import StorePlace
from hf_agent.hyperfile.cache import CacheOptions
from hf_agent.hyperfile.concurrency import map_concurrently
from hf_agent.hyperfile.file.options import Mode
from hf_agent.store.base import Store

__all__ = ["HyperfileFileSystem"]

_CONCURRENCY = 16
"""Containers that one call looks at, or ranges that it reads, at one time."""
_CHUNK_BYTES = 8 << 20
_FILE_OPTIONS = frozenset(FileOptions.__dataclass_fields__)


class HyperfileFileSystem(AsyncFileSystem):  # type: ignore[misc]
    """Hyperfile containers on S3 or in a directory, as files.

    Options: `fo` and `target_protocol` as fsspec passes them for chained URLs; `target_options` or
    plain keyword arguments for S3 under s3fs's names (see `fs.s3_options`); fields of `FileOptions`
    for files that are written; `caches` for what is read; `default_block_size` (bytes) and
    `default_cache_type` for the buffer of a file that is opened for reading.

    With `pin`, this file system shows each container as it was when it was first looked at, however
    it grows: for engines that ask for a file's size more than once, open it several times, or read
    it in several processes, for what was pinned goes with the file system when it is pickled. A
    mapping from paths to checkpoints pins these beforehand. (fsspec gives out one file system for
    equal options, with its pins: `skip_instance_cache=True` makes another one.)

    Errors are `OSError`s: see `fs.errors`.
    """

    protocol: ClassVar[str] = "hyperfile"
    cachable = True
    root_marker = ""
    async_impl = True

    def __init__(
        self,
        fo: str = "",
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        asynchronous: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        batch_size: int | None = None,
        caches: CacheOptions | None = None,
        pin: bool | Mapping[str, int] = False,
        default_block_size: int = 4 << 20,
        default_cache_type: str = "readahead",
        **options: Any,
    ) -> None:
        super().__init__(asynchronous=asynchronous, loop=loop, batch_size=batch_size)
        if target_protocol not in (None, "s3", "file", "local"):
            raise ValueError(
                f"containers are on s3 or in a directory (file) target_protocol={target_protocol}"
            )
        self._root = Root(root_url(fo, target_protocol))
        own = {name: options.pop(name) for name in list(options) if name in _FILE_OPTIONS}
        self._file_options = FileOptions(**own)
        self._caches = caches or CacheOptions()
        self._default_block_size = default_block_size
        self._default_cache_type = default_cache_type
        self._pinned: dict[str, int] | None = None
        if pin or isinstance(pin, Mapping):
            given = pin.items() if isinstance(pin, Mapping) else ()
            self._pinned = {self._strip_protocol(path): number for path, number in given}
        self._s3_options = s3_options({**(target_options or {}), **options})
        self._stores: dict[str, Store] = {}
        self._clock = SystemClock()
        self._rng = system_random()
        if not asynchronous:
            weakref.finalize(self, _close_stores, self.loop, self._stores)

    def __reduce__(self) -> Any:
        make, (kind, args, options) = super().__reduce__()
        if self._pinned is not None:
            options = {**options, "pin": dict(self._pinned)}
        return make, (kind, args, options)

    # -- looking -----------------------------------------------------------------------------

    async def _info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        try:
            return await self._container_info(path)
        except FileNotFoundError:
            if await self._is_folder(path):
                return _folder(path)
            raise

    async def _ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        try:
            entries = [await self._container_info(path)]
        except FileNotFoundError:
            entries = await self._folder_entries(path)
        entries.sort(key=lambda entry: str(entry["name"]))
        return entries if detail else [entry["name"] for entry in entries]

    async def _container_info(self, path: str) -> dict[str, Any]:
        place = self._root.container(path)
        with os_errors(path):
            stat = await stat_container(self._store(place.store_url), place.key)
        info = {
            "name": path,
            "size": stat.size,
            "type": "file",
            "mtime": stat.modified,
            "checkpoint": stat.checkpoint,
            "block_size": stat.block_size,
        }
        pinned = self._pin(path, stat.checkpoint)
        if pinned != stat.checkpoint:
            async with await self._open_file(path, "r", pinned) as file:
                found = file.stat()
                info |= {
                    "size": found.size,
                    "mtime": found.mtime_ns / 1e9,
                    "checkpoint": pinned,
                }
        return info

    def _pin(self, path: str, checkpoint: int) -> int:
        """The checkpoint to show of a container that is at `checkpoint` now."""
        if self._pinned is None or not checkpoint:
            return checkpoint
        return self._pinned.setdefault(path, checkpoint)

    async def _folder_entries(self, path: str) -> list[dict[str, Any]]:
        place = self._root.folder(path)
        store = self._store(place.store_url)
        with os_errors(path):
            names = [
                entry.removeprefix(place.key).rstrip("/")
                async for entry in store.list(place.key, delimiter="/")
                if isinstance(entry, str)
            ]
        if not names:
            raise FileNotFoundError(errno.ENOENT, "neither a container nor a folder", path)
        paths = [f"{path}/{name}" if path else name for name in names]
        return await map_concurrently(self._entry, paths, limit=_CONCURRENCY)

    async def _entry(self, path: str) -> dict[str, Any]:
        try:
            return await self._container_info(path)
        except FileNotFoundError:
            return _folder(path)

    async def _is_folder(self, path: str) -> bool:
        if not path and self._root.url:
            return True
        place = self._root.folder(path)
        with os_errors(path):
            async for _ in self._store(place.store_url).list(place.key, delimiter="/"):
                return True
        return False

    def created(self, path: str) -> datetime:
        """Not known: a container does not say when it was made."""
        raise NotImplementedError("a container does not say when it was made")

    def modified(self, path: str) -> datetime:
        """When the content last changed, UTC."""
        return datetime.fromtimestamp(self.info(path)["mtime"], UTC)

    def ukey(self, path: str) -> str:
        """Another string whenever the container is another one: like an ETag."""
        info = self.info(path)
        return str(
            tokenize(self._root.uri(path), info.get("checkpoint"), info.get("mtime"), info["size"])
        )

    def checksum(self, path: str) -> int:
        """`ukey` as a number."""
        return int(self.ukey(path), 16)

    # -- reading -----------------------------------------------------------------------------

    async def _cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        checkpoint: int | None = None,
        at_time: float | None = None,
        **kwargs: Any,
    ) -> bytes:
        async with self._reading(path, checkpoint, at_time) as file:
            return await read_slice(file, start, end)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Iterable[int | None] | int | None,
        ends: Iterable[int | None] | int | None,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        """Several ranges; those of one path come from one checkpoint."""
        return await read_ranges(
            lambda path: self._reading(path, **kwargs),
            *(paths, starts, ends),
            limit=batch_size or _CONCURRENCY,
            on_error=on_error,
        )

    async def _get_file(
        self, rpath: str, lpath: str | os.PathLike[str], callback: Any = None, **kwargs: Any
    ) -> None:
        if Path(lpath).is_dir():  # noqa: ASYNC240
            return
        async with self._reading(rpath, **kwargs) as file:
            if callback is not None:
                callback.set_size(file.size)
            with await asyncio.to_thread(open, lpath, "wb") as target:
                for offset in range(0, file.size, _CHUNK_BYTES):
                    data = await file.pread(offset, _CHUNK_BYTES)
                    await asyncio.to_thread(target.write, data)
                    if callback is not None:
                        callback.relative_update(len(data))

    # -- writing -----------------------------------------------------------------------------

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        with os_errors(path):
            async with await self._open_file(path, "x" if mode == "create" else "w") as file:
                await file.append(value)

    async def _put_file(
        self,
        lpath: str | os.PathLike[str],
        rpath: str,
        callback: Any = None,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        if Path(lpath).is_dir():  # noqa: ASYNC240
            return
        with await asyncio.to_thread(open, lpath, "rb") as source:
            if callback is not None:
                callback.set_size(os.fstat(source.fileno()).st_size)
            opening = self._open_file(rpath, "x" if mode == "create" else "w")
            with os_errors(rpath):
                async with await opening as file:
                    while data := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                        await file.append(data)
                        if callback is not None:
                            callback.relative_update(len(data))

    async def _rm_file(self, path: str, **kwargs: Any) -> None:
        place = self._root.container(self._strip_protocol(path))
        with os_errors(path):
            await remove(self._store(place.store_url), place.key)

    async def _rm(self, path: str | list[str], recursive: bool = False, **kwargs: Any) -> None:
        for one in await self._expand_path(path, recursive=recursive):
            try:
                await self._rm_file(one)
            except FileNotFoundError:
                if recursive:
                    continue  # a folder: gone with the last container in it
                if await self._is_folder(self._strip_protocol(one)):
                    raise IsADirectoryError(errno.EISDIR, "a folder: use recursive", one) from None
                raise

    async def _cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        source = self._root.container(self._strip_protocol(path1))
        target = self._root.container(self._strip_protocol(path2))
        with os_errors(path1):
            await copy(
                self._store(source.store_url),
                source.key,
                self._store(target.store_url),
                target.key,
                clock=self._clock,
                rng=self._rng,
            )

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Nothing to do: a folder is there when a container is in it."""

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Nothing to do: a folder is there when a container is in it."""

    # -- opening -----------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | str | None = None,
        autocommit: bool = True,
        cache_type: str | None = None,
        cache_options: dict[str, Any] | None = None,
        checkpoint: int | None = None,
        at_time: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """A file object. For reading it shows one checkpoint for as long as it is open.

        What is written becomes one checkpoint when the file is closed (in a transaction: when that
        ends), or sooner by its raw file's `flush`; none when a `with` block over it raises.
        """
        plain = plain_mode(mode)
        if plain == "r":
            file = sync(self.loop, self._open_file, path, "r", checkpoint, at_time)
            return ReadBuffer(
                self,
                path,
                file,
                block_size=block_size or self._default_block_size,
                cache_type=cache_type or self._default_cache_type,
                cache_options=cache_options,
            )
        file = sync(self.loop, self._open_file, path, file_mode(plain))
        raw = HyperfileIO(
            file,
            self._root.uri(path),
            FsLoop(self.loop, path),
            lambda: sync(self.loop, file.abort),
            mode=plain,
        )
        size = max(file.stat().block_size, io.DEFAULT_BUFFER_SIZE)
        return write_buffer(raw, size, autocommit=autocommit)

    async def _open_file(
        self, path: str, mode: Mode, checkpoint: int | None = None, at_time: float | None = None
    ) -> HyperFile:
        path = self._strip_protocol(path)
        place = self._root.container(path)
        if mode == "r" and checkpoint is None and at_time is None and self._pinned:
            checkpoint = self._pinned.get(path)
        with os_errors(path):
            file = await HyperFile.open(
                self._store(place.store_url),
                place.key,
                mode,
                clock=self._clock,
                rng=self._rng,
                checkpoint=checkpoint,
                at_time=at_time,
                options=self._file_options,
            )
        if mode == "r" and checkpoint is None and at_time is None:
            self._pin(path, file.checkpoint)
        return file

    @asynccontextmanager
    async def _reading(
        self,
        path: str,
        checkpoint: int | None = None,
        at_time: float | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[HyperFile]:
        async with await self._open_file(path, "r", checkpoint, at_time) as file:
            with os_errors(path):
                yield file

    def _store(self, url: str) -> Store:
        store = self._stores.get(url)
        if store is None:
            place = StorePlace(url, self._s3_options, self._caches)
            store = self._stores[url] = place.open(clock=self._clock, rng=self._rng)
        return store

    async def aclose(self) -> None:
        """Close all connections, for those who use the file system on a loop of their own."""
        for url in list(self._stores):
            await self._stores.pop(url).close()

    close = sync_wrapper(aclose)


def _folder(path: str) -> dict[str, Any]:
    return {"name": path, "size": 0, "type": "directory"}


def _close_stores(loop: asyncio.AbstractEventLoop, stores: dict[str, Store]) -> None:
    if stores and loop.is_running():
        for store in stores.values():
            asyncio.run_coroutine_threadsafe(store.close(), loop)
