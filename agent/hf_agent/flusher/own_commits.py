"""Finds what a container holds of a stream after another writer has written to it.

Our commits since the bind are one run in the container's history, right after the state that the
bind names: each was built on the one before it, and the first that meets another writer's commit
is refused. So the newest checkpoint of ours, on the way back from the present state, says it all.
That way may be long, when the other writer went on for days: it is followed to its end, because
stopping early would store again what is there, and after an error it goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_agent.hyperfile import Appender, Trailer
from hf_agent.hyperfile.fingerprints import fingerprints_of_state
from hf_agent.hyperfile.opening import FoundCheckpoint
from hf_agent.streams.bind import Bind

__all__ = ["OwnCommitSearch", "OwnCommits", "is_own_commit"]


@dataclass(frozen=True, slots=True)
class OwnCommits:
    """What of a stream was found behind its bind."""

    position: int | None
    """Stream position that the newest commit reaches; None when there is none since the bind."""
    bound: bool
    """Whether the state that the bind names is part of the container's history."""


def is_own_commit(
    trailer: Trailer | None, size: int, *, bind: Bind, writer_id: bytes, durable: int
) -> bool:
    """Whether a checkpoint, by its trailer and the file's `size` with it, was made under `bind`."""
    return (
        trailer is not None
        and trailer.writer_id == writer_id
        and bind.position <= trailer.position <= durable
        and size == bind.offset + trailer.position - bind.position
    )


class OwnCommitSearch:
    """One for all streams; between two calls it keeps how far an interrupted search has come."""

    def __init__(self, writer_id: bytes) -> None:
        self._writer_id = writer_id
        self._interrupted: dict[str, tuple[Bind, int]] = {}

    async def find(self, stream: str, bind: Bind, appender: Appender, durable: int) -> OwnCommits:
        """Search the history of the container that `stream` is bound to.

        `durable` is the stream's end in the WAL. Raises `FormatError`, and the store's errors.
        """
        before, number = self._interrupted.get(stream, (None, None))
        found = None
        if before == bind:
            found = await self._walk(stream, bind, appender, durable, newest=number)
        if found is None:
            found = await self._walk(stream, bind, appender, durable, newest=None)
        self._interrupted.pop(stream, None)
        return found or OwnCommits(None, bound=False)

    async def _walk(
        self, stream: str, bind: Bind, appender: Appender, durable: int, *, newest: int | None
    ) -> OwnCommits | None:
        """None when there is nothing at `newest` (any more)."""
        result = None
        async for found in appender.history(newest):
            self._interrupted[stream] = bind, found.header.checkpoint
            if bind.fingerprint in fingerprints_of_state(found.header.inode):
                return OwnCommits(None, bound=True)
            trailer = await self._trailer(found, bind, appender, durable)
            if trailer is not None:
                return OwnCommits(trailer.position, bound=True)
            result = OwnCommits(None, bound=found.header.base == bind.fingerprint)
            if result.bound:
                break
        return result

    async def _trailer(
        self, found: FoundCheckpoint, bind: Bind, appender: Appender, durable: int
    ) -> Trailer | None:
        """The trailer of a checkpoint, if it is ours."""
        size = found.inode.size
        if not bind.offset <= size <= bind.offset + durable - bind.position:
            return None  # whoever wrote it, it is none of ours: its trailer need not be read
        trailer = await appender.trailer_of(found)
        ours = is_own_commit(trailer, size, bind=bind, writer_id=self._writer_id, durable=durable)
        return trailer if ours else None
