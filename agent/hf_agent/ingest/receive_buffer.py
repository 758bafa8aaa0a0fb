"""Memory that a connection receives into, and that parsers read in place.

Bytes are received behind each other into one `bytearray`. A payload that somebody keeps is either
a view of that array or, when it is small, a copy: a view costs 200 bytes itself and keeps the
whole array alive. An array of which a view was given away is never written again where bytes have
been received; when it is used up, a new one is taken and only the unparsed rest is copied. The
rest that never gets used is less than a quarter of the array.

Nothing is held while there is nothing to hold: the array is taken when bytes arrive and dropped by
`release`. The largest ones go through a pool, because to make one costs more than to fill it; who
drives the agent calls `trim` on that now and then, so that a quiet agent has none. An array's size
follows the peer, 16 KiB for small talkers up to 256 KiB for streams. A message that is larger still
makes it grow as its bytes really come, whatever its header declares.
"""

from __future__ import annotations

from typing import Final, Protocol

from hf_agent.ingest.array_pool import ArrayPool

__all__ = ["LARGEST", "POOL", "SMALLEST", "Holding", "ReceiveBuffer"]

SMALLEST: Final = 16 << 10
"""Every connection may have this much; what goes beyond is asked of the budget."""
LARGEST: Final = 256 << 10
"""Largest size taken by habit: more than a Unix socket queues by default."""

_COPY_UP_TO: Final = 4 << 10
_QUIET_READS: Final = 8
_NOTHING: Final = bytearray()
_MAX_IDLE: Final = 32

POOL: Final = ArrayPool(LARGEST, max_arrays=64)
"""16 MiB: what two batches of the log hold, one being written and one that gathers, and more."""

_idle: list[bytearray] = []
"""Arrays of `SMALLEST` for the next that need one. Making one clears it all, for a few bytes."""


class Holding(Protocol):
    """Permission to hold memory."""

    def resize(self, nbytes: int) -> bool:
        """Hold `nbytes` from now on. False: refused, what is held stays. `SMALLEST` never is."""
        ...

    def touch(self) -> None:
        """Bytes have arrived."""
        ...


class Unbounded:
    """Permission that is never refused, where nothing is shared."""

    def resize(self, nbytes: int) -> bool:
        """Always granted."""
        return True

    def touch(self) -> None:
        """Of no interest."""


class ReceiveBuffer:
    """Received bytes `data[start:end]` that were not consumed yet.

    In turn: `room` to receive into and `received`; parse and `consume`; `prepare`.
    """

    __slots__ = (
        "_handed_out",
        "_holding",
        "_offered",
        "_quiet",
        "_size",
        "data",
        "end",
        "start",
        "view",
        "wanted",
    )

    def __init__(self, holding: Holding | None = None) -> None:
        self._holding: Holding = holding if holding is not None else Unbounded()
        self._size = SMALLEST
        self._offered = 0
        self._quiet = 0
        self._handed_out = False
        self.data = _NOTHING
        self.view = memoryview(_NOTHING)
        self.start = 0
        self.end = 0
        self.wanted = 0
        """What the message at `start` takes in all, as far as its parser knows; 0: unknown."""

    def __len__(self) -> int:
        return self.end - self.start

    # -- receiving -------------------------------------------------------------------------

    def room(self) -> memoryview:
        """Where to receive to; never empty when the last `prepare` returned True."""
        if self.end == len(self.data):
            self._take(self._size if self._holding.resize(self._size) else self._least())
        self._offered = len(self.data) - self.end
        return self.view[self.end :]

    def received(self, nbytes: int) -> None:
        """`nbytes` were received into what `room` gave."""
        self.end += nbytes
        if nbytes == self._offered:
            self._size = min(2 * self._size, LARGEST)
            self._quiet = 0
        elif 8 * nbytes < self._size and self._size > SMALLEST:
            self._quiet += 1
            if self._quiet == _QUIET_READS:
                self._size //= 2
                self._quiet = 0
        else:
            self._quiet = 0
        self._holding.touch()

    def feed(self, data: bytes | memoryview) -> None:
        """Receive a copy of `data`, for those who have it already."""
        rest = memoryview(data)
        while rest:
            self.prepare()
            room = self.room()
            taken = min(len(room), len(rest))
            room[:taken] = rest[:taken]
            self.received(taken)
            rest = rest[taken:]

    # -- parsing ---------------------------------------------------------------------------

    def consume(self, nbytes: int) -> None:
        """The first `nbytes` are done with."""
        self.start += nbytes
        self.wanted = 0

    def keep(self, view: memoryview) -> bytes | memoryview:
        """Part of `view` of this buffer for somebody to keep: a copy when it is small."""
        if len(view) <= _COPY_UP_TO:
            return bytes(view)
        self._handed_out = True
        return view

    # -- memory ----------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Bytes of memory held."""
        return len(self.data)

    def prepare(self) -> bool:
        """Make room for what comes next. False: full, and the holding does not allow more."""
        pending = self.end - self.start
        free = len(self.data) - self.end
        enough = len(self.data) // 4
        if not pending:
            if not self._handed_out:
                self.start = self.end = 0
            elif free < enough:
                self._drop()
            return True
        missing = self.wanted - pending if self.wanted else enough
        # A short rest is worth another read only if that saves copying much.
        if free and (free >= enough or (free >= missing and pending >= enough)):
            return True
        if not self._handed_out and len(self.data) - pending >= max(min(missing, enough), 1):
            self.view[:pending] = self.view[self.start : self.end]
            self.start, self.end = 0, pending
            return True
        for size in (max(self._size, self.needed), self.needed):
            if self._holding.resize(size):
                self._take(size)
                return True
        return free > 0

    @property
    def needed(self) -> int:
        """Bytes of memory for the message under way to go on: twice what came, or its end."""
        pending = self.end - self.start
        whole = self.wanted if self.wanted > pending else 2 * pending
        return max(SMALLEST, min(whole, 2 * pending))

    def release(self) -> None:
        """Hold no memory, if nothing is unparsed."""
        if self.start == self.end:
            self._drop()
            self._holding.resize(0)

    def discard(self) -> None:
        """Forget what is unparsed, and hold no memory."""
        self.start = self.end
        self.release()

    def _least(self) -> int:
        self._holding.resize(SMALLEST)
        return SMALLEST

    def _take(self, size: int) -> None:
        pending = self.end - self.start
        data = _array(size)
        view = memoryview(data)
        view[:pending] = self.view[self.start : self.end]
        self._give_back()
        self.data, self.view = data, view
        self.start, self.end = 0, pending
        self._handed_out = False

    def _give_back(self) -> None:
        POOL.give_back(self.data)
        if len(self.data) == SMALLEST and not self._handed_out and len(_idle) < _MAX_IDLE:
            _idle.append(self.data)

    def _drop(self) -> None:
        self._give_back()
        self.data = _NOTHING
        self.view = memoryview(_NOTHING)
        self.start = self.end = 0
        self.wanted = 0
        self._handed_out = False


def _array(size: int) -> bytearray:
    if size == LARGEST:
        return POOL.take()
    if size == SMALLEST and _idle:
        return _idle.pop()
    return bytearray(size)
