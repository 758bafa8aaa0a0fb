"""Finding room for a batch, writing it there, and what is true once it is durable.

Data is only written while there is a spare file. The spare is the reserve from which notes and
commits go on when the log is full, for without them nothing could be flushed and freed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hf_agent.clock import Clock
from hf_agent.wal.batch import Item, commit_bytes, encode
from hf_agent.wal.disk import pwritev_all, pwritev_all_sync
from hf_agent.wal.files import FileSet
from hf_agent.wal.index import FOOTER_BYTES, index_bytes
from hf_agent.wal.record import COMMIT, DATA, HEADER_BYTES, NOTE, padded
from hf_agent.wal.rotation import rotate
from hf_agent.wal.state import MarkKey, StreamState

__all__ = ["Placement", "Written"]


class Written(NamedTuple):
    """Records that are durable, and of which the log's books do not tell yet."""

    items: Sequence[Item]
    offsets: Sequence[int]
    """Where each item's record begins in the open file."""
    time_ns: int
    size: int
    """Bytes in the file."""


class Placement:
    """Puts batches at the end of the log. Used by one thread at a time."""

    def __init__(self, files: FileSet, clock: Clock) -> None:
        self._files = files
        self._clock = clock

    def make_room(self, items: Sequence[Item], *, urgent: bool) -> bool:
        """Make the open file one that holds `items`; False when the log is full.

        Urgent ones may use the reserve. Raises `OSError` and `SyncFailure`.
        """
        files = self._files
        if not self.fits(items):
            if not files.ensure_spare():
                return False
            rotate(files, self._now())
        return files.ensure_spare() or urgent

    def write(self, items: Sequence[Item], *, synced: bool = True) -> Written:
        """Write a batch into the open file and sync it. `apply` must follow.

        Without `synced`, whoever writes the log syncs the file before anybody is told of it.
        Raises `OSError`: when out of space, nothing has changed and it may be tried again.
        """
        files = self._files
        file = files.open
        time_ns = self._now()
        encoded = encode(items, file.seed, file.tail, files.next_batch, time_ns)
        if synced:
            pwritev_all_sync(files.disk, file.handle.fd, encoded.buffers, encoded.size, file.tail)
        else:
            pwritev_all(files.disk, file.handle.fd, encoded.buffers, file.tail)
        file.tail += encoded.size
        files.next_batch += 1
        return Written(items, encoded.offsets, time_ns, encoded.size)

    def fits(self, items: Sequence[Item]) -> bool:
        """Whether the open file has room for the items and for its own end."""
        file = self._files.open
        extents = file.extents
        known = extents.streams
        streams, records = len(known), extents.records
        need = FOOTER_BYTES
        for kind, stream, _, _, size, _, _ in items:
            need += HEADER_BYTES + padded(size)
            if kind == DATA:
                records += 1
                streams += stream not in known
        need += index_bytes(streams, records)
        if items[0].type != COMMIT:
            # Room that a COMMIT will find even when nothing else fits: it is what frees files.
            need += commit_bytes(len(self._files.state.streams) + len(items))
        return file.tail + need <= file.size

    def apply(
        self, written: Written, new_streams: Sequence[StreamState], marks: Mapping[MarkKey, int]
    ) -> None:
        """Make what was written part of the durable state, for readers and later files."""
        items, offsets, time_ns, _ = written
        file = self._files.open
        state = self._files.state
        streams = state.streams
        for stream in new_streams:
            streams[stream.number] = stream
        for index, (kind, number, position, buffers, size, _, _) in enumerate(items):
            if kind == DATA:
                file.extents.add(number, position, offsets[index], size)
                streams[number].durable = position + size
                if not file.first_time_ns:
                    file.first_time_ns = time_ns
            elif kind == NOTE:
                streams[number].durable_note = bytes(buffers[0])
        if marks and not state.marks.add_new(marks):
            for key, value in marks.items():
                state.marks.move(key, value)

    def _now(self) -> int:
        return int(self._clock.time() * 1e9)
