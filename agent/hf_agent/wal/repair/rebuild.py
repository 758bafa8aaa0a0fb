"""Writes what was salvaged as a new log, with the code that writes every log.

It has the damaged log's id, so that what is on the store is still known for this log's, and a
record for each old one, so that what the store has ends where a record does. Zero bytes, marked as
such, take the place of gaps: positions and notes keep their meaning, and where the store has the
lost bytes, nothing is lost. Of a stream whose positions have lost their sense the note is dropped,
so that it is bound anew behind whatever its container holds then, and its bytes move up.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from hf_agent.clock import Clock
from hf_agent.wal.batch import Item, encoded_size
from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Disk
from hf_agent.wal.errors import WalError
from hf_agent.wal.file_head import SPARE_NAME, file_name
from hf_agent.wal.files import FileSet, sync
from hf_agent.wal.handle import Handle
from hf_agent.wal.opening import open_log
from hf_agent.wal.placement import Placement
from hf_agent.wal.record import DATA, FILL
from hf_agent.wal.repair.salvage import MendNote, Salvage, SalvagedStream
from hf_agent.wal.repair.sources import LogFiles
from hf_agent.wal.repair.walk import Good
from hf_agent.wal.rotation import needed_size, write_file_start
from hf_agent.wal.snapshot import pack_snapshot
from hf_agent.wal.state import LogState, StreamState

__all__ = ["Counts", "rebuild"]

_UNBOUNDED = 1 << 60
_MANY = 1 << 20
_LARGEST_FILE = 1 << 30
_SMALLEST_FILE = 64 << 10
_FILL_BYTES = 8 << 10


@dataclass(slots=True)
class Counts:
    """What the new log holds: DATA records, their bytes, and zeros in the place of lost bytes."""

    records: int = 0
    bytes: int = 0
    zeros: int = 0


def rebuild(
    files: LogFiles,
    found: Salvage,
    target: Path,
    *,
    disk: Disk,
    clock: Clock,
    rng: random.Random,
    mend: MendNote,
) -> Counts:
    """Write the new log into `target`, durable and closed.

    Its files continue the sequence of the damaged ones. Raises `WalError`, `SyncFailure`,
    `OSError`.
    """
    config = _config(files.largest)
    numbers = {old: new for new, old in enumerate(sorted(found.streams), start=1)}
    _begin(files, found, numbers, target, config, disk, int(clock.time() * 1e9), mend)
    lock, new, _ = open_log(target, config, disk, clock, rng)
    try:
        counts = _copy(files, found, _Batches(new, clock, config.batch_limit), numbers)
        sync(disk.fsync, new.open.handle.fd)
    finally:
        new.close()
        lock.close()
    disk.unlink(target / SPARE_NAME)
    sync(disk.fsync_dir, target)
    return counts


def _config(largest: int) -> WalConfig:
    file_bytes = min(max(largest, _SMALLEST_FILE), _LARGEST_FILE)
    return WalConfig(
        file_bytes=file_bytes,
        max_bytes=_UNBOUNDED,
        max_record_bytes=file_bytes // 4,
        max_streams=_MANY,
        max_marks=_MANY,
        max_binary_marks=_MANY,
        max_name_bytes=4096,
    )


def _begin(
    files: LogFiles,
    found: Salvage,
    numbers: dict[int, int],
    target: Path,
    config: WalConfig,
    disk: Disk,
    time_ns: int,
    mend: MendNote,
) -> None:
    state = LogState(marks=found.marks)
    for old, number in numbers.items():
        stream = found.streams[old]
        known = StreamState(stream.name, number)
        known.committed = known.position = known.durable = stream.committed
        known.note = known.durable_note = found.mended_note(stream, mend)
        state.streams[number] = known
    snapshot = pack_snapshot(state)
    sequence = files.last_sequence + 1
    size = needed_size(config.file_bytes, len(snapshot), len(state.streams))
    handle = Handle(disk, disk.open(target / file_name(sequence), os.O_RDWR | os.O_CREAT))
    try:
        disk.fallocate(handle.fd, size)
        write_file_start(
            disk,
            handle.fd,
            wal_id=files.wal_id,
            sequence=sequence,
            size=size,
            snapshot=snapshot,
            batch=1,
            time_ns=time_ns,
        )
    finally:
        handle.close()
    sync(disk.fsync_dir, target)


class _Batches:
    """Puts DATA records into batches, at most one of each stream in a batch."""

    def __init__(self, files: FileSet, clock: Clock, limit: int) -> None:
        self._files = files
        self._placement = Placement(files, clock)
        self._limit = limit
        self._items: dict[int, Item] = {}
        self._size = 0

    def add(self, number: int, position: int, data: bytes, flags: int = 0) -> None:
        item = Item(DATA, number, position, [data], len(data), large=True, flags=flags)
        size = encoded_size([item])
        if number in self._items or self._size + size > self._limit:
            self.write()
        self._items[number] = item
        self._size += size

    def write(self) -> None:
        """Write what was gathered; sealing a file syncs it, and the last one is synced at the end.

        No agent reads the log before that.
        """
        if not self._items:
            return
        items = list(self._items.values())
        if not self._placement.make_room(items, urgent=True):
            raise WalError(f"cannot write the repaired log: {self._files.full_reason}")
        self._placement.apply(self._placement.write(items, synced=False), (), {})
        self._items.clear()
        self._size = 0


def _copy(files: LogFiles, found: Salvage, batches: _Batches, numbers: dict[int, int]) -> Counts:
    counts = Counts()
    old_end = {number: stream.committed for number, stream in found.streams.items()}
    new_end = dict(old_end)
    rebound = {number for number, each in found.streams.items() if found.is_rebound(each)}

    def add(number: int, data: bytes, flags: int = 0) -> None:
        batches.add(numbers[number], new_end[number], data, flags)
        new_end[number] += len(data)

    def fill(number: int, nbytes: int) -> None:
        while nbytes > 0 and number not in rebound:
            part = min(nbytes, _FILL_BYTES)
            add(number, bytes(part), FILL)
            counts.zeros += part
            nbytes -= part

    for event in files.events():
        if not isinstance(event, Good) or event.found.header.type != DATA:
            continue
        header = event.found.header
        number, end = header.stream, header.position + header.length
        known = max(0, old_end[number] - header.position)
        if known >= header.length:
            continue  # the store has it, or it was there before
        fill(number, header.position - old_end[number])
        data = event.scanner.payload(event.found)[known:]
        add(number, data, header.flags & FILL)
        old_end[number] = end
        counts.records += 1
        counts.bytes += len(data)
    for number, stream in found.streams.items():
        fill(number, _end_to_fill(stream) - old_end[number])
    batches.write()
    return counts


def _end_to_fill(stream: SalvagedStream) -> int:
    return max(stream.end, stream.lost_end)
