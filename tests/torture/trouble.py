"""What goes wrong inside one agent process, put in the place of its disks, store and clock.

The agent takes all of these as arguments, or makes them in one place; a child of the nursery puts
others there before it becomes the agent. Nothing of it is in the package, and no variable of the
environment reaches it.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import hf_agent.service.agent
import hf_agent.service.core
import hf_agent.service.main
import hf_agent.store.directory
from hf_agent.clock import SystemClock
from hf_agent.wal import OsDisk
from torture.hooked import Hook, Hooked, HookedStore
from torture.mutants import MUTANTS

__all__ = ["POINTS", "arrange"]

POINTS = (
    *("wal.open", "wal.fallocate", "wal.pwritev", "wal.pwritev_sync", "wal.fdatasync"),
    *("wal.fsync_dir", "wal.rename", "wal.unlink", "wal.truncate", "wal.preadv"),
    *("disk.open", "disk.writev", "disk.fsync", "disk.link", "disk.rename", "disk.unlink"),
    *("disk.mkdir", "disk.try_flock", "disk.close"),
    *("store.create.begin", "store.create.end", "store.replace.begin", "store.replace.end"),
    *("store.get.begin", "store.get.end"),
)
"""Where a process can be killed: before or after the call of that name."""

_CHANGES = frozenset(
    (
        *("fallocate", "pwritev", "pwritev_sync", "fdatasync", "fsync", "fsync_dir", "rename"),
        *("unlink", "truncate", "writev", "link", "mkdir"),
    )
)
_SPACE = frozenset(("fallocate", "pwritev", "pwritev_sync", "writev", "mkdir", "link"))
_WRITES = frozenset(("pwritev", "pwritev_sync", "writev"))


def arrange(
    *,
    seed: int = 0,
    point: str = "",
    count: int = 1,
    after: bool = False,
    wal_errors: float = 0.0,
    store_errors: float = 0.0,
    short_writes: float = 0.0,
    file_limit: int = 0,
    limit_after: float = 0.0,
    clock_jumps: bool = False,
    mutant: str = "",
) -> None:
    """Have this process meet it.

    `point` (of `POINTS`): SIGKILL at the call number `count` to it, before it or `after` it.
    `wal_errors`, `store_errors`, `short_writes`: the share of the calls that fail, or write only a
    part. `file_limit`: RLIMIT_FSIZE, in bytes, after `limit_after` seconds (0: from the start on).
    `mutant`: one of `MUTANTS`.
    """
    rng = random.Random(seed)
    # Batches are seldom longer than what the disk wants in one call: in half of the lives, all are.
    OsDisk.piece_bytes = rng.choice((1 << 10, OsDisk.piece_bytes))
    hooks: list[Hook] = []
    if point:
        hooks.append(_KillPoint(point, count, after=after))
    if wal_errors or store_errors or short_writes:
        hooks.append(_Errors(rng, {"wal": wal_errors, "disk": store_errors}, short_writes))
    for hook in hooks:
        _front(hf_agent.service.agent, "OsDisk", partial(Hooked, "wal", hook))
        _front(hf_agent.store.directory, "OsDisk", partial(Hooked, "disk", hook))
        _front(hf_agent.service.core, "open_store", partial(HookedStore, hook))
    if clock_jumps:
        _front(hf_agent.service.main, "SystemClock", lambda _: _JumpingClock(rng))
    if file_limit:
        # Python ignores SIGXFSZ: a write past the limit gets EFBIG, or is a short one.
        limits = resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY)
        threading.Timer(limit_after, resource.setrlimit, limits).start()
    if mutant:
        MUTANTS[mutant]()


def _front(module: ModuleType, name: str, wrap: Callable[[Any], Any]) -> None:
    """Have what `module` makes by calling `name` be wrapped."""
    make = getattr(module, name)
    setattr(module, name, lambda *args, **named: wrap(make(*args, **named)))


class _KillPoint:
    def __init__(self, point: str, count: int, *, after: bool) -> None:
        assert point in POINTS, point
        self._point = point
        self._left = count
        self._after = after

    def around(self, place: str, name: str, call: Callable[..., Any], args: Any) -> Any:
        if f"{place}.{name}" != self._point:
            return call(*args)
        self._left -= 1
        if not self._left and not self._after:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = call(*args)
        if not self._left:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


class _Errors:
    """EIO and ENOSPC before the call or after its effect, and short writes."""

    def __init__(self, rng: random.Random, shares: dict[str, float], short: float) -> None:
        self._rng = rng
        self._shares = shares
        self._short = short

    def around(self, place: str, name: str, call: Callable[..., Any], args: Any) -> Any:
        if name not in _CHANGES:
            return call(*args)
        if self._rng.random() < self._shares.get(place, 0.0):
            return self._fail(name, call, args)
        if name in _WRITES and self._rng.random() < self._short:
            return call(args[0], _part(args[1], self._rng), *args[2:])
        return call(*args)

    def _fail(self, name: str, call: Callable[..., Any], args: Any) -> Any:
        number = errno.ENOSPC if name in _SPACE and self._rng.random() < 0.5 else errno.EIO
        how = self._rng.randrange(3)
        if how == 0:
            call(*args)
        elif how == 1 and name in _WRITES:
            call(args[0], _part(args[1], self._rng), *args[2:])
        raise OSError(number, os.strerror(number))


def _part(buffers: Sequence[Any], rng: random.Random) -> list[memoryview]:
    """A beginning of the buffers, of one byte at least."""
    views = [memoryview(buffer).cast("B") for buffer in buffers if len(buffer)]
    if not views:
        return views
    left = rng.randint(1, sum(view.nbytes for view in views))
    part = []
    for view in views:
        part.append(view[:left])
        left -= part[-1].nbytes
        if not left:
            break
    return part


class _JumpingClock(SystemClock):
    """The time of day jumps, by seconds or by days, forth and back.

    No further than `wal.max_chunk_age` allows: who sends a chunk again is known for that long."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._offset = 0.0

    def time(self) -> float:
        if self._rng.random() < 0.02:
            most = self._rng.choice((2.0, 3600.0, 86400.0 * 10))
            self._offset = self._rng.uniform(-most, most)
        return super().time() + self._offset
