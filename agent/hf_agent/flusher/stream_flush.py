"""One checkpoint of one stream: plan, read the WAL into place, commit.

Between two flushes it keeps the opened container. After any error it forgets it and finds the
truth again by opening: a write whose answer was lost is then found by our trailer in the
checkpoint, whether its inode was swapped or not, and is never made twice.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hf_agent.flusher.attachment import Attached, Attacher
from hf_agent.hyperfile import Appender, CheckpointBuild
from hf_agent.wal import Plan, Wal

__all__ = ["Flushed", "StreamFlush"]


@dataclass(frozen=True, slots=True)
class Flushed:
    """What one flush did."""

    position: int
    """Everything of the stream below it is committed."""
    nbytes: int
    """Stream bytes that this flush committed; 0 when there was nothing to do."""
    key: str
    diverted: bool
    checkpoint: int
    size: int


class StreamFlush:
    """Flushes one stream; never two flushes at a time."""

    def __init__(self, name: str, *, wal: Wal, attacher: Attacher, max_bytes: int) -> None:
        self.name = name
        self.max_bytes = max_bytes
        self._wal = wal
        self._attacher = attacher
        self._attached: Attached | None = None
        self._committed = 0

    @property
    def cached_bytes(self) -> int:
        """Memory held for the next flush."""
        return self._attached.appender.cached_bytes if self._attached is not None else 0

    def drop_cache(self) -> None:
        """Give that memory back; the next flush reads it from the store again."""
        if self._attached is not None:
            self._attached.appender.drop_cache()

    async def run(self) -> Flushed:
        """Commit up to `max_bytes` more. Raises the errors of the store, the format and the WAL."""
        attached = self._attached
        try:
            if attached is None:
                attached = await self._attacher.attach(self.name)
                self._committed = attached.committed
                self._attached = attached
            appender = attached.appender
            start = self._committed
            plan: Plan | None = self._wal.plan(self.name, start, self.max_bytes)
            assert plan is not None
            end = plan.end
            if end > start:
                build = await appender.begin(end - start)
                # The payload goes from the page cache to its place in the checkpoint object.
                await asyncio.to_thread(self._wal.read_into, plan, build.body)
                # A plan that lives keeps its files from being used again once they are freed.
                plan = None
                await self._commit(appender, build, end)
                self._committed = end
        except BaseException:
            self._attached = None
            raise
        return Flushed(
            position=self._committed,
            nbytes=self._committed - start,
            key=attached.bind.key,
            diverted=attached.bind.diverted,
            checkpoint=appender.checkpoint,
            size=appender.size,
        )

    async def _commit(self, appender: Appender, build: CheckpointBuild, end: int) -> None:
        """Commit, and have it remembered as ours whether an answer comes or not."""
        own = self._attacher.own_commits
        try:
            await appender.commit(build, position=end)
        except BaseException:
            if build.sealed:
                own.tried(self.name, build.inode_bytes)
            raise
        own.succeeded(self.name, build.inode_bytes)
