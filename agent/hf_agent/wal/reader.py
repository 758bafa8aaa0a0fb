"""Reading a stream back: plans of whole records, and large reads that check every checksum."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from crc32c import crc32c

from hf_agent.wal.disk import preadv_all
from hf_agent.wal.errors import WalCorrupt, WalError
from hf_agent.wal.extents import OFFSET_UNIT, cut
from hf_agent.wal.files import FileSet
from hf_agent.wal.handle import Handle
from hf_agent.wal.index import ENTRY_BYTES, Entries, StreamRange, parse_entries
from hf_agent.wal.log_file import OpenFile, SealedFile
from hf_agent.wal.record import DATA, FILL, HEADER_BYTES, unpack_header
from hf_agent.wal.state import StreamState

__all__ = ["Plan", "Reader"]

_WINDOW = 1 << 20
_DIRECT = 64 << 10  # payloads of this size are read straight into the caller's buffer
_MAX_GAP = 32 << 10  # other streams' bytes that are rather read than skipped with another call


@dataclass(slots=True)
class Segment:
    """Consecutive records of one stream in one file."""

    file: OpenFile | SealedFile
    handle: Handle
    start: int
    """Stream position of the first byte."""
    base: int
    """What `ends` are relative to."""
    offsets: Sequence[int]
    """Of the record headers, in units of 8 bytes."""
    ends: Sequence[int]


class Plan:
    """Whole durable records of a stream, `[start, end)`. While it lives, its files stay readable.

    Holds 8 bytes for each record. Drop it when it has been read.
    """

    __slots__ = ("__weakref__", "end", "number", "segments", "start", "stream")

    def __init__(self, stream: str, number: int, start: int) -> None:
        self.stream = stream
        self.number = number
        """The stream's number in the log."""
        self.start = start
        self.end = start
        self.segments: list[Segment] = []

    @property
    def nbytes(self) -> int:
        """Bytes from start to end."""
        return self.end - self.start

    @property
    def records(self) -> int:
        """Number of records; an append is never split over two."""
        return sum(len(segment.ends) for segment in self.segments)

    def __bool__(self) -> bool:
        return self.end > self.start


class _Candidate(NamedTuple):
    """A sealed file that holds bytes of the plan; its entries are not loaded yet."""

    file: SealedFile
    handle: Handle
    where: StreamRange


class Reader:
    """Plans and reads; any thread, several at once."""

    def __init__(self, files: FileSet) -> None:
        self._files = files

    def plan(self, stream: StreamState, start: int, max_bytes: int) -> Plan:
        """See `Wal.plan`."""
        plan = Plan(stream.name, stream.number, start)
        if start == stream.durable:
            return plan
        if not stream.first <= start < stream.durable:
            raise WalError(
                f"no such bytes in the write-ahead log stream={stream.name} start={start} "
                f"first={stream.first} durable={stream.durable}"
            )
        limit = start + max_bytes
        candidates: list[_Candidate] = []
        files = self._files
        with files.lock:
            # Held on to under the lock: from here on, freeing leaves these bytes alone.
            for file in files.sealed:
                where = file.directory.find(stream.number)
                if where is None or where.end <= start:
                    continue
                if where.first >= limit:
                    break
                file.plans.add(plan)
                candidates.append(_Candidate(file, files.handle(file), where))
            open_file = files.open
            extents = open_file.extents.streams.get(stream.number)
            if extents is not None and extents.first < limit:
                open_file.plans.add(plan)
        for candidate in candidates:
            entries = self._entries(candidate, stream.number)
            base = candidate.where.first
            if not _extend(plan, candidate.file, candidate.handle, base, entries, limit):
                break
        else:
            if extents is not None:
                # Arrays that only grow: what is added meanwhile is durable as well.
                entries = Entries(extents.offsets, extents.ends)
                _extend(plan, open_file, open_file.handle, extents.first, entries, limit)
        if plan:
            return plan
        for candidate in candidates:
            if candidate.where.first <= start < candidate.where.end:
                entries = self._entries(candidate, stream.number)
                base, seed = candidate.where.first, candidate.file.seed
                return self._plan_inside(stream, plan, base, entries, candidate.handle, seed, limit)
        assert extents is not None
        entries = Entries(extents.offsets, extents.ends)
        return self._plan_inside(
            stream, plan, extents.first, entries, open_file.handle, open_file.seed, limit
        )

    def _plan_inside(
        self,
        stream: StreamState,
        empty: Plan,
        base: int,
        entries: Entries,
        handle: Handle,
        seed: int,
        limit: int,
    ) -> Plan:
        """A plan that begins inside a record: only among zeros that a repair put there.

        How the lost bytes were divided into records is lost with them, so what the store has of
        them may end anywhere.
        """
        index = bisect_right(entries.ends, empty.start - base)
        offset = entries.offsets[index] * OFFSET_UNIT
        data = memoryview(bytearray(HEADER_BYTES))
        whole = preadv_all(self._files.disk, handle.fd, [data], offset)
        header = unpack_header(seed, offset, data) if whole else None
        if header is None or not header.flags & FILL:
            raise WalError(f"no record begins there stream={stream.name} start={empty.start}")
        plan = self.plan(stream, header.position, limit - header.position)
        plan.start = empty.start
        return plan

    def read_into(self, plan: Plan, buffer: memoryview) -> None:
        """See `Wal.read_into`."""
        target = buffer.cast("B")
        if target.nbytes != plan.nbytes:
            raise ValueError(
                f"the buffer has another size than the plan bytes={target.nbytes} "
                f"plan={plan.nbytes}"
            )
        skipped = plan.start - plan.segments[0].start if plan.segments else 0
        if skipped:
            whole = memoryview(bytearray(skipped + plan.nbytes))
            self._read(plan, whole)
            target[:] = whole[skipped:]
        else:
            self._read(plan, target)

    def _read(self, plan: Plan, target: memoryview) -> None:
        """Read all records of the plan, from the beginning of the first one."""
        start = plan.segments[0].start if plan.segments else plan.start
        scratch = memoryview(bytearray(min(_WINDOW, max(map(_span, plan.segments), default=0))))
        for segment in plan.segments:
            check = _Check(segment.file, plan.number)
            self._read_segment(segment, check, target[segment.start - start :], scratch)

    def _entries(self, candidate: _Candidate, number: int) -> Entries:
        file, handle, where = candidate
        if file.extents is not None:
            scanned = file.extents.streams[number]
            return Entries(scanned.offsets, scanned.ends)
        cached = self._files.index_cache.get(file, number)
        if cached is not None:
            return cached
        block = bytearray(ENTRY_BYTES * where.records)
        place = file.entries_base + where.offset
        whole = preadv_all(self._files.disk, handle.fd, [memoryview(block)], place)
        entries = parse_entries(bytes(block), where) if whole else None
        if entries is None:
            raise WalCorrupt(file.path, place, "checksum mismatch in the index")
        self._files.index_cache.add(file, number, entries)
        return entries

    def _read_segment(
        self, segment: Segment, check: _Check, target: memoryview, scratch: memoryview
    ) -> None:
        disk, fd = self._files.disk, segment.handle.fd
        offsets, ends, base = segment.offsets, segment.ends, segment.base
        at = 0  # in target
        index, count = 0, len(ends)
        while index < count:
            offset = offsets[index] * OFFSET_UNIT
            length = base + ends[index] - segment.start - at
            if length >= _DIRECT:
                header, payload = scratch[:HEADER_BYTES], target[at : at + length]
                if not preadv_all(disk, fd, [header, payload], offset):
                    raise check.corrupt(offset, "the file ends within a record")
                check.record(offset, header, payload, segment.start + at)
                at += length
                index += 1
                continue
            after, span = _window(segment, index, length)
            window = scratch[:span]
            if not preadv_all(disk, fd, [window], offset):
                raise check.corrupt(offset, "the file ends within a record")
            window_start = offset
            for record in range(index, after):
                offset = offsets[record] * OFFSET_UNIT
                end = base + ends[record] - segment.start
                header_at = offset - window_start
                payload_at = header_at + HEADER_BYTES
                payload = window[payload_at : payload_at + end - at]
                header = window[header_at:payload_at]
                check.record(offset, header, payload, segment.start + at)
                target[at:end] = payload
                at = end
            index = after


class _Check:
    """Compares records with what the index said of them."""

    def __init__(self, file: OpenFile | SealedFile, number: int) -> None:
        self._file = file
        self._number = number

    def record(
        self, offset: int, header_bytes: memoryview, payload: memoryview, position: int
    ) -> None:
        """Raise `WalCorrupt` unless header and payload are those of that place and position."""
        header = unpack_header(self._file.seed, offset, header_bytes)
        if header is None:
            raise self.corrupt(offset, "no record where one was written")
        if (header.type, header.stream, header.position, header.length) != (
            *(DATA, self._number),
            *(position, payload.nbytes),
        ):
            raise self.corrupt(offset, "another record than the index says")
        if crc32c(payload) != header.payload_crc:
            raise self.corrupt(offset, "checksum mismatch in a record's payload")

    def corrupt(self, offset: int, reason: str) -> WalCorrupt:
        return WalCorrupt(self._file.path, offset, reason)


def _extend(
    plan: Plan,
    file: OpenFile | SealedFile,
    handle: Handle,
    base: int,
    entries: Entries,
    limit: int,
) -> bool:
    """Add the file's records from the plan's end on; False when the plan ends within the file."""
    start = plan.end - base
    found = cut(entries.ends, start, limit - plan.end) if start >= 0 else None
    if found is None:
        return False
    low, high = found
    if plan and entries.ends[low] + base > limit:
        return False
    segment = Segment(
        file, handle, plan.end, base, entries.offsets[low:high], entries.ends[low:high]
    )
    plan.segments.append(segment)
    plan.end = base + segment.ends[-1]
    return high == len(entries.ends)


def _span(segment: Segment) -> int:
    """Bytes of the file from the segment's first record to the end of its last one."""
    ends = segment.ends
    before = ends[-2] if len(ends) > 1 else segment.start - segment.base
    return (segment.offsets[-1] - segment.offsets[0]) * OFFSET_UNIT + (
        HEADER_BYTES + ends[-1] - before
    )


def _window(segment: Segment, index: int, length: int) -> tuple[int, int]:
    """How many records from `index` on to read at once: the index after them, and the bytes."""
    offsets, ends = segment.offsets, segment.ends
    start = offsets[index] * OFFSET_UNIT
    span = HEADER_BYTES + length
    for after in range(index + 1, len(ends)):
        begin = offsets[after] * OFFSET_UNIT - start
        length = ends[after] - ends[after - 1]
        end = begin + HEADER_BYTES + length
        if begin - span > _MAX_GAP or end > _WINDOW or length >= _DIRECT:
            return after, span
        span = end
    return len(ends), span
