"""Several requests side by side, none of them left running when one fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["map_concurrently"]

T = TypeVar("T")
R = TypeVar("R")


async def map_concurrently(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, limit: int
) -> list[R]:
    """`function` of every item, in the order of the items, at most `limit` of them at a time.

    When one fails, no further call starts, those that run are waited for, and the first failure
    in the order of the items is raised.
    """
    slots = asyncio.Semaphore(limit)
    failed = False

    async def call(item: T) -> list[R]:
        nonlocal failed
        async with slots:
            if failed:
                return []
            try:
                return [await function(item)]
            except BaseException:
                failed = True
                raise

    results = await asyncio.gather(*map(call, items), return_exceptions=True)
    values: list[R] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        values.extend(result)
    return values
