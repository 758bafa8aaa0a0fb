"""What a connection needs from the agent: a place to put appends, and word of their fate.

Listeners and connections know this protocol only, never the WAL or the flusher behind it. All
calls are made on the event loop's thread and none of them blocks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

__all__ = ["NO_CHUNKS", "WHOLE_CHUNK", "Chunks", "Mark", "Receipt", "Rejected", "Sink"]

Buffer: TypeAlias = bytes | bytearray | memoryview


class Mark(NamedTuple):
    """A producer's name, its epoch and the id of an append: what a resend is recognised by."""

    producer: str
    id: int
    epoch: int = 0
    """0 to 2**63 - 1, as the id; ids of a later epoch count from 1 again."""


Chunks: TypeAlias = Mapping[bytes, int]
"""Keys of chunks, 16 bytes each, and how many of their entries are in, or `WHOLE_CHUNK`: what a
resend is recognised by."""

NO_CHUNKS: Final[Chunks] = MappingProxyType({})
WHOLE_CHUNK: Final = (1 << 32) - 1
"""As a chunk's progress: nothing of it is missing."""


class Receipt(NamedTuple):
    """An append was taken (not yet durable)."""

    batch: int
    """It is durable when the batch of this number is."""
    position: int
    """Stream position after it, in bytes."""


class Rejected(Exception):
    """An append was not taken.

    `code` is one of the append protocol's error codes. `permanent` says that the same append
    would be refused again (bad name, too large); otherwise a later try may succeed (WAL full).
    """

    def __init__(self, code: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.permanent = permanent


class Sink(Protocol):
    """Where appends go."""

    def accepts(self) -> bool:
        """Whether there is room now. When not: stop reading, and call `notify_room`."""
        ...

    def notify_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when there is room again; first come, first served."""
        ...

    def check_stream(self, stream: str) -> None:
        """Raise `Rejected` (permanent) if no append to this stream is ever taken here.

        `append` refuses it as well; this is for protocols whose refusals must be the same on a
        resend, whatever became of the append since.
        """
        ...

    def append(
        self,
        stream: str,
        data: Buffer,
        *,
        records: int,
        mark: Mark | None,
        chunks: Chunks = NO_CHUNKS,
    ) -> Receipt:
        """Take one append (or `records` of them, to be stored together) for `stream`.

        `data` is kept, not copied: the caller must never write to that memory again. With a
        `mark`, the producer's last id becomes `mark.id` in the same durable batch, and the progress
        of `chunks` what they say.
        Raises `Rejected` (`stream_not_allowed`, `too_many_streams`, `wal_full`, `wal_failed`).
        """
        ...

    def append_all(
        self, parts: Sequence[tuple[str, Buffer]], *, mark: Mark | None
    ) -> list[Receipt]:
        """Take one append to several streams, all of it or nothing; one receipt for each part.

        The parts share a batch. As `append` otherwise; no stream is named twice.
        """
        ...

    def raise_mark(self, mark: Mark) -> int:
        """Raise what is known of a producer, without an append; it never goes back.

        Returns the batch with which that is durable. Raises `Rejected` as `append` does.
        """
        ...

    def known(self, producer: str) -> Mark:
        """The highest epoch of this producer, and the highest id taken in it; 0 and 0 at first."""
        ...

    def position(self, stream: str) -> int:
        """Stream position after all that was taken so far, in bytes; 0 for a new stream."""
        ...

    def chunk_progress(self, key: bytes) -> int:
        """How many entries of this chunk were taken, or `WHOLE_CHUNK`; 0 when it is not known."""
        ...

    def knows_none(self, keys: Collection[bytes]) -> bool:
        """Whether nothing is known of any of these chunks."""
        ...

    def barrier(self) -> int:
        """The batch with which everything taken so far is durable; may be durable already."""
        ...

    def notify_durable(self, batch: int, callback: Callable[[], None]) -> None:
        """Call back once, soon, on the loop, when `batch` is durable (also when it is already)."""
        ...

    def notify_stored(self, stream: str, position: int, callback: Callable[[], None]) -> None:
        """Call back once when the store has committed `stream` up to `position`.

        Asks for a flush of that stream at once.
        """
        ...

    def flush(self, stream: str | None) -> Awaitable[None]:
        """Everything of `stream` (or of all) taken so far is in the store when this returns.

        Raises `Rejected` (`unknown_stream`).
        """
        ...

    def status(self) -> dict[str, Any]:
        """What `/api/status` shows, as plain JSON types."""
        ...
