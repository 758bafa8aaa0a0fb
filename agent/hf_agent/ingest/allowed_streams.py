"""A sink that takes appends for some streams only: what a socket's `allow_streams` lets through.

Protocols see a sink like any other, which refuses those streams for good.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from hf_agent.ingest.sink import NO_CHUNKS, Buffer, Chunks, Mark, Receipt, Rejected, Sink

__all__ = ["AllowedStreams"]

_REMEMBERED: Final = 1024
"""Names whose decision is remembered; all are forgotten when there are more."""


class AllowedStreams:
    """Implements `Sink` over another one."""

    def __init__(self, sink: Sink, allows: Callable[[str], bool]) -> None:
        self._sink = sink
        self._allows = allows
        self._decisions: dict[str, bool] = {}
        # What does not depend on the stream is the other sink's own, at no cost for each call.
        self.accepts = sink.accepts
        self.notify_room = sink.notify_room
        self.known = sink.known
        self.position = sink.position
        self.raise_mark = sink.raise_mark
        self.chunk_progress = sink.chunk_progress
        self.knows_none = sink.knows_none
        self.barrier = sink.barrier
        self.notify_durable = sink.notify_durable
        self.notify_stored = sink.notify_stored
        self.flush = sink.flush
        self.status = sink.status

    def check_stream(self, stream: str) -> None:
        """See `Sink.check_stream`."""
        allowed = self._decisions.get(stream)
        if allowed is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            allowed = self._decisions[stream] = self._allows(stream)
        if not allowed:
            raise Rejected(
                "stream_not_allowed",
                f"socket takes no appends for this stream stream={stream!r}",
                permanent=True,
            )
        self._sink.check_stream(stream)

    def append(
        self,
        stream: str,
        data: Buffer,
        *,
        records: int,
        mark: Mark | None,
        chunks: Chunks = NO_CHUNKS,
    ) -> Receipt:
        """See `Sink.append`."""
        self.check_stream(stream)
        return self._sink.append(stream, data, records=records, mark=mark, chunks=chunks)

    def append_all(
        self, parts: Sequence[tuple[str, Buffer]], *, mark: Mark | None
    ) -> list[Receipt]:
        """See `Sink.append_all`."""
        for stream, _ in parts:
            self.check_stream(stream)
        return self._sink.append_all(parts, mark=mark)
