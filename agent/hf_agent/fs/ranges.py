"""Several ranges of several containers in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

from hf_agent.fs.errors import os_errors
from hf_agent.hyperfile import HyperFile
from hf_agent.hyperfile.concurrency import map_concurrently

__all__ = ["read_ranges", "read_slice"]

_PATHS = 16
"""Containers that are open at one time."""

Bounds = Iterable[int | None] | int | None


async def read_ranges(
    reading: Callable[[str], AbstractAsyncContextManager[HyperFile]],
    paths: list[str],
    starts: Bounds,
    ends: Bounds,
    *,
    limit: int,
    on_error: str,
) -> list[Any]:
    """As fsspec's `cat_ranges`: bytes `[start, end)` of each path, or the exception in their place.

    `reading` opens a path: once, so that its ranges come from one checkpoint. Of one path, `limit`
    ranges are read at a time. With `on_error` other than "return", the first exception is raised.
    """
    if not isinstance(paths, list):
        raise TypeError("paths is a list")
    first = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
    last = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
    if not len(paths) == len(first) == len(last):
        raise ValueError("as many starts and ends as paths")
    results: list[Any] = [None] * len(paths)
    places: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        places.setdefault(path, []).append(index)

    async def read_path(path: str) -> None:
        try:
            async with reading(path) as file:

                async def read_range(index: int) -> None:
                    try:
                        with os_errors(path):
                            results[index] = await read_slice(file, first[index], last[index])
                    except Exception as error:
                        results[index] = error

                await map_concurrently(read_range, places[path], limit=limit)
        except Exception as error:
            for index in places[path]:
                results[index] = error

    await map_concurrently(read_path, list(places), limit=_PATHS)
    if on_error != "return":
        for result in results:
            if isinstance(result, Exception):
                raise result
    return results


async def read_slice(file: HyperFile, start: int | None, end: int | None) -> bytes:
    """Bytes `[start, end)`, either left out or counted from the end as in a slice."""
    low, high, _ = slice(start, end).indices(file.size)
    return await file.pread(low, max(high - low, 0))
