"""Everything provable in one file of a log, in its order, whatever lies in between.

A record proves itself: its header's checksum binds it to log, file and offset, and covers the
checksum of its payload. So records behind a damaged place are as good as those before it.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hf_agent.wal.file_head import HEAD_BYTES, FileHead
from hf_agent.wal.record import END, HEADER_BYTES, INDEX, unpack_header
from hf_agent.wal.scan import Found, RecordScanner
from hf_agent.wal.sealed import load_directory
from hf_agent.wal.tail import is_partial_header

__all__ = [
    "Aside",
    "BadPayload",
    "Event",
    "FileEnd",
    "Good",
    "Harmless",
    "Torn",
    "Unreadable",
    "walk",
]


@dataclass(frozen=True, slots=True)
class Good:
    """A record whose every byte has its checksum."""

    scanner: RecordScanner
    found: Found


@dataclass(frozen=True, slots=True)
class BadPayload:
    """A record whose header is good and whose payload is not: what is lost is known."""

    path: Path
    found: Found


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Bytes in which anything may have stood."""

    path: Path
    offset: int
    length: int
    """Bytes that are there."""
    most: int
    """How many bytes of streams may be lost with them, at most."""
    reason: str


@dataclass(frozen=True, slots=True)
class Harmless:
    """A damaged place that costs no record."""

    path: Path
    offset: int
    length: int
    reason: str


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that is not what its name says."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Torn:
    """The unfinished batch at the end of the log: it was never acknowledged."""

    path: Path
    offset: int
    length: int


Event: TypeAlias = Good | BadPayload | Unreadable | Harmless | Aside | Torn


class FileEnd(NamedTuple):
    """Where the records of a file end."""

    batch: int
    """Number of the last batch."""
    offset: int
    at_cut: bool
    """Whether the file was cut short there, so that nobody knows what came behind."""
    sealed: Found | None
    """The INDEX record that ends them, if it is there."""


def walk(
    scanner: RecordScanner, head: FileHead | None, before: int, *, newest: bool, cut: bool
) -> Generator[Event, None, FileEnd]:
    """The events of one file, after batch number `before`.

    In the newest file a batch is durable when a later one was written. In sealed files every good
    record counts, and so it does where a file was `cut` short and nothing tells that any more.
    """
    all_durable = not newest
    offset, done = HEAD_BYTES, before
    number, time_ns = 0, 0  # of the batch that has begun and not ended; 0: none
    held: list[Good] = []  # its good records
    index: Found | None = None
    while True:
        wanted = number or done + 1
        found = scanner.header(offset)
        if found is None or not _goes_on(found, wanted, time_ns):
            behind = _next_live(scanner, offset, wanted, time_ns)
            if behind is None or not (all_durable or _later(scanner, offset, wanted)):
                break
            # What came before the bad place was durable: a later batch was written.
            yield from held
            held = []
            length = behind.offset - offset
            reason = "no valid record, and live ones behind"
            yield Unreadable(scanner.path, offset, length, length, reason)
            found = behind
        header = found.header
        if number and header.batch != number:
            yield from held  # only its END is lost
            held = []
        if header.type == INDEX:
            index = found
            done = header.batch
            break
        number, time_ns = header.batch, header.time_ns
        if scanner.payload_is_good(found):
            held.append(Good(scanner, found))
        elif all_durable or _later(scanner, found.end, number):
            yield from held
            held = []
            yield BadPayload(scanner.path, found)
        else:
            break  # of the last batch: an unfinished write, as far as anybody can tell
        offset = found.end
        if header.flags & END:
            yield from held
            held = []
            done, number, time_ns = number, 0, 0
    if index is not None:
        yield from _judge_index(scanner, head, index, cut=cut)
        offset = index.end
    at_cut = index is None and cut and _reaches_end(scanner, offset)
    if all_durable or at_cut:
        yield from held
        if index is None and not cut and offset < scanner.limit:
            length = scanner.limit - offset
            reason = "no valid record up to the file's end, where an index should be"
            yield Unreadable(scanner.path, offset, length, length, reason)
    elif index is None:
        start = held[0].found.offset if held else offset
        end = _torn_end(scanner, offset, number or done + 1, done)
        if end > start:
            yield Torn(scanner.path, start, end - start)
        offset = start
    return FileEnd(max(done, number), offset, at_cut, index)


def _reaches_end(scanner: RecordScanner, offset: int) -> bool:
    """Whether a record may have begun at `offset` that goes beyond what is left of the file."""
    if offset + HEADER_BYTES > scanner.limit:
        return True
    data = memoryview(scanner.raw(offset, HEADER_BYTES))
    return unpack_header(scanner.seed, offset, data) is not None


def _goes_on(found: Found, number: int, time_ns: int) -> bool:
    """Whether this is of batch `number`, with that time (0: any), or of a later one."""
    header = found.header
    return header.batch > number or (
        header.batch == number and (not time_ns or header.time_ns == time_ns)
    )


def _next_live(scanner: RecordScanner, offset: int, number: int, time_ns: int) -> Found | None:
    for found in scanner.behind(offset):
        if found.payload_end <= scanner.limit and _goes_on(found, number, time_ns):
            return found
    return None


def _later(scanner: RecordScanner, offset: int, number: int) -> bool:
    """Whether a batch after `number` was written behind `offset`: then `number` was synced."""
    return any(found.header.batch > number for found in scanner.behind(offset))


def _torn_end(scanner: RecordScanner, offset: int, number: int, done: int) -> int:
    end = offset
    for found in scanner.behind(offset):
        if found.header.batch == number:
            end = max(end, min(found.end, scanner.limit))
    raw = scanner.raw(offset, HEADER_BYTES) if offset < scanner.limit else b""
    if end == offset and is_partial_header(raw, done):
        end = offset + len(raw)
    return end


def _judge_index(
    scanner: RecordScanner, head: FileHead | None, index: Found, *, cut: bool
) -> Generator[Event]:
    if not scanner.payload_is_good(index):
        reason = "checksum mismatch in the index"
        yield Harmless(scanner.path, index.offset, index.header.total, reason)
    elif head is not None and not cut and load_directory(scanner, head) is None:
        yield Harmless(scanner.path, scanner.limit, 64, "the file's footer is damaged")
