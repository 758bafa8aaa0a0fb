"""Several requests side by side, none of them left running when one fails."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["for_each", "map_ahead", "map_concurrently"]

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


async def for_each(
    function: Callable[[T], Awaitable[None]], items: Iterable[T], *, limit: int
) -> None:
    """Call `function` with every item, at most `limit` of them at a time, in no promised order.

    For any number of items. When one call fails, the others are cancelled and its error is raised.
    """
    remaining = iter(items)

    async def worker() -> None:
        for item in remaining:
            await function(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(worker())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def map_ahead(
    function: Callable[[T], Awaitable[R]], items: Iterable[T], *, ahead: int
) -> AsyncGenerator[R, None]:
    """`function` of every item, in their order, begun for up to `ahead` items beyond the one that
    is given out. Close it (`aclose`) when it is not used to its end."""
    remaining = iter(items)
    running: deque[asyncio.Task[R]] = deque()

    async def call(item: T) -> R:
        return await function(item)

    try:
        while True:
            for item in remaining:
                running.append(asyncio.create_task(call(item)))
                if len(running) > ahead:
                    break
            if not running:
                return
            yield await running.popleft()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
