"""Opening a container by its URI, as `open` opens a file by its path."""

from __future__ import annotations

import errno
import functools
import os
from dataclasses import replace
from typing import Any

from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile.blocking.loop_thread import LoopThread, loop_thread
from hf_agent.hyperfile.blocking.modes import file_mode, plain_mode
from hf_agent.hyperfile.blocking.raw_file import HyperfileIO
from hf_agent.hyperfile.blocking.stores import SharedStores, StorePlace
from hf_agent.hyperfile.cache.options import CacheOptions
from hf_agent.hyperfile.errors import ContainerExists, NoSuchContainer
from hf_agent.hyperfile.file.handle import HyperFile
from hf_agent.hyperfile.file.options import FileOptions
from hf_agent.store.option_names import check_option_names
from hf_agent.store.options import S3Options
from hf_agent.store.url import container_uri, split_uri

__all__ = ["open"]

_FILE_OPTIONS = frozenset(FileOptions.__dataclass_fields__)
_STORE_OPTIONS = frozenset(S3Options.__dataclass_fields__) - _FILE_OPTIONS


def open(
    uri: str | os.PathLike[str],
    mode: str = "r",
    *,
    checkpoint: int | None = None,
    at_time: float | None = None,
    caches: CacheOptions | None = None,
    read_ahead_bytes: int = 32 << 20,
    **options: Any,
) -> HyperfileIO:
    """Open the container at `s3://bucket/key`, `file:///dir/key` or a path as a raw binary file.

    URIs are those of the command line: `file:./dir/key` is below the current directory, and
    `hyperfile://bucket/key` is on S3.

    Modes as for Python's own `open`, always binary (a "b" may be added): `r` reads, `r+` reads and
    writes, `w` empties or creates, `a` appends or creates, `x` creates; `w+`, `a+` and `x+` read
    as well. With `checkpoint` (a number) or `at_time` (Unix seconds), mode `r` shows what was there
    then.

    `caches` says what is kept of what was read, beside the map. Whoever reads in order has up to
    `read_ahead_bytes` fetched before they are asked for. `options` are fields of `FileOptions` and
    of `S3Options`; `part_bytes`, which both have, is that of `FileOptions`.

    Raises `FileNotFoundError`, `FileExistsError`, `ValueError` for URIs, modes and options that are
    none, `HyperfileError` for damage, and the store's errors.
    """
    plain = plain_mode(mode)
    check_option_names(options, _FILE_OPTIONS | _STORE_OPTIONS)
    file_options = FileOptions(**{k: v for k, v in options.items() if k in _FILE_OPTIONS})
    s3_options = replace(S3Options(), **{k: v for k, v in options.items() if k in _STORE_OPTIONS})
    name = os.fspath(uri)
    url, key = split_uri(container_uri(uri))
    place = StorePlace(url, s3_options, caches or CacheOptions())
    thread = loop_thread()
    stores = _shared_stores(thread)

    async def opening() -> HyperFile:
        store = stores.take(place)
        try:
            return await HyperFile.open(
                store,
                key,
                file_mode(plain),
                clock=SystemClock(),
                rng=system_random(),
                checkpoint=checkpoint,
                at_time=at_time,
                options=file_options,
            )
        except BaseException:
            await stores.give_back(place)
            raise

    async def closing(file: HyperFile) -> None:
        await file.abort()
        await stores.give_back(place)

    try:
        file = thread.run(opening())
    except NoSuchContainer as error:
        raise FileNotFoundError(errno.ENOENT, "no container there", name) from error
    except ContainerExists as error:
        raise FileExistsError(errno.EEXIST, "a container is there already", name) from error
    return HyperfileIO(
        *(file, name, thread, lambda: thread.run(closing(file))),
        mode=plain,
        read_ahead_bytes=read_ahead_bytes,
    )


@functools.lru_cache(maxsize=1)
def _shared_stores(thread: LoopThread) -> SharedStores:
    """Of this process: a forked child has another thread, and may not use its parent's sockets."""
    return SharedStores(SystemClock(), system_random())
