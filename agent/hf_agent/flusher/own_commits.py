"""Tells our checkpoints of a container from those of others, and finds the newest of ours.

A checkpoint is ours when its trailer carries this WAL's id and fits the bind, and

- it goes no further than what the WAL held when this process began, or
- it is one that this process has tried to commit.

The second half is there for a WAL directory that was copied: both copies have one id, and what
the other one has committed since may look like ours but for the bytes in it.

Our commits since the bind are one run in the container's history, right after the state that the
bind names: each was built on the one before it, and the first that meets another writer's commit
is refused. So the newest of ours, on the way back from the present state, says it all. That way
may be long, when the other writer went on for days: it is followed to its end, because stopping
early would store again what is there, and after an error it goes on where it was.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from hf_agent.hyperfile import Appender, Trailer, fingerprint
from hf_agent.hyperfile.fingerprints import fingerprints_of_state
from hf_agent.hyperfile.opening import FoundCheckpoint
from hf_agent.streams.bind import Bind
from hf_agent.wal import Wal

__all__ = ["Found", "OwnCommits"]

_MAX_ATTEMPTS = 64
"""Commits of a stream that failed in a row and may still land. Each was given up by a timeout,
and followed by a pause: the oldest are long out of the world."""


@dataclass(frozen=True, slots=True)
class Found:
    """What of a stream a container holds behind the bind."""

    position: int | None
    """Stream position that our newest commit reaches; None when there is none since the bind."""
    bound: bool
    """Whether the state that the bind names is part of the container's history."""
    last: bool = False
    """Whether our newest commit is the container's newest, and nothing was changed since."""


class OwnCommits:
    """One for all streams. Of a stream it keeps fingerprints of what was tried, and a number."""

    def __init__(self, wal: Wal) -> None:
        """To be made before anything is appended to `wal`."""
        self._writer_id = wal.id
        self._recovered = {view.name: view.durable for view in wal.streams()}
        self._tried: dict[str, deque[int]] = {}
        self._interrupted: dict[str, tuple[Bind, int]] = {}

    def tried(self, stream: str, inode: bytes) -> None:
        """A commit with this inode has failed, or was cut off: it may be done all the same."""
        self._tried.setdefault(stream, deque(maxlen=_MAX_ATTEMPTS)).append(fingerprint(inode))

    def succeeded(self, stream: str, inode: bytes) -> None:
        """A commit with this inode is done, and what was tried before it no longer matters."""
        self._tried[stream] = deque((fingerprint(inode),), maxlen=_MAX_ATTEMPTS)

    async def find(self, stream: str, bind: Bind, appender: Appender, durable: int) -> Found:
        """Search the history of the container that `stream` is bound to for our newest commit.

        `durable` is the stream's end in the WAL. Raises `FormatError`, and the store's errors.
        """
        newest = appender.latest_trailer
        state = appender.fingerprint_without_compaction
        if newest and self._is_own(stream, bind, newest, appender.size, state, durable):
            return Found(newest.position, bound=True, last=True)
        before, number = self._interrupted.get(stream, (None, None))
        found = None
        if before == bind:
            found = await self._walk(stream, bind, appender, durable, newest=number)
        if found is None:
            found = await self._walk(stream, bind, appender, durable, newest=None)
        self._interrupted.pop(stream, None)
        return found or Found(None, bound=False)

    async def _walk(
        self, stream: str, bind: Bind, appender: Appender, durable: int, *, newest: int | None
    ) -> Found | None:
        """None when there is nothing at `newest` (any more)."""
        result = None
        async for found in appender.history(newest):
            number = found.header.checkpoint
            self._interrupted[stream] = bind, number
            if bind.fingerprint in fingerprints_of_state(found.header.inode):
                return Found(None, bound=True)
            position = await self._position(stream, found, bind, appender, durable)
            if position is not None:
                last = number == appender.checkpoint and found.inode.size == appender.size
                return Found(position, bound=True, last=last)
            result = Found(None, bound=found.header.base == bind.fingerprint)
            if result.bound:
                break
        return result

    async def _position(
        self, stream: str, found: FoundCheckpoint, bind: Bind, appender: Appender, durable: int
    ) -> int | None:
        """The stream position that a checkpoint reaches, if it is ours."""
        size = found.inode.size
        if not bind.offset <= size <= bind.offset + durable - bind.position:
            return None  # whoever wrote it, it is none of ours: its trailer need not be read
        trailer = await appender.trailer_of(found)
        state = fingerprint(found.header.inode)
        if trailer and self._is_own(stream, bind, trailer, size, state, durable):
            return trailer.position
        return None

    def _is_own(
        self, stream: str, bind: Bind, trailer: Trailer, size: int, state: int, durable: int
    ) -> bool:
        """Whether we made a checkpoint with this trailer, size and fingerprint of the inode."""
        return (
            trailer.writer_id == self._writer_id
            and bind.position <= trailer.position <= durable
            and size == bind.offset + trailer.position - bind.position
            and (
                trailer.position <= self._recovered.get(stream, 0)
                or state in self._tried.get(stream, ())
            )
        )
