"""The end of the newest file: which batches are whole, what is torn, what is damage.

Batch k + 1 is only written after the sync of batch k. So a bad record of the last batch can be an
unfinished write, and is cut; a record of a later batch behind a bad one proves damage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hf_agent.wal.disk import Disk, pwritev_all
from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.file_head import READS
from hf_agent.wal.index import FOOTER_BYTES
from hf_agent.wal.record import DATA, END, HEADER_BYTES, INDEX, MAGIC
from hf_agent.wal.scan import Found, RecordScanner

__all__ = ["Tail", "is_partial_header", "make_tail_durable", "scan_batches"]

_CHUNK = 1 << 20


@dataclass(slots=True)
class Tail:
    """Where the log ends."""

    offset: int
    """End of the last whole batch."""
    batch: int
    """Its number."""
    start: int
    """Where it begins; equal to `offset` when the file has none."""
    dirty_end: int
    """End of what an unfinished batch may have left behind `offset`."""
    torn_bytes: int
    """Bytes of an unfinished batch; 0 when there is none."""
    sealed: bool = False
    """Whether an INDEX begins at `offset`: the next file is there, or was about to be."""


def scan_batches(
    scanner: RecordScanner, offset: int, batch: int, apply: Callable[[Found, bytes], None]
) -> Tail:
    """Apply the records of all whole batches after `batch` from `offset` on.

    Raises `WalCorrupt`. Nothing is changed on disk.
    """
    tail = Tail(offset, batch, offset, offset, 0)
    pending: list[tuple[Found, bytes]] = []
    while True:
        found = scanner.header(offset)
        if found is None or found.header.batch <= tail.batch:
            break  # never written, unfinished, or stale
        header = found.header
        if header.batch != tail.batch + 1:
            raise _behind(scanner, tail, offset, found)
        if header.type == INDEX or not scanner.payload_is_good(found):
            break
        if pending and header.time_ns != pending[0][0].header.time_ns:
            break  # a record of another attempt at the same batch
        is_data = header.type == DATA
        pending.append((found, b"" if is_data else scanner.payload(found)))
        offset = found.end
        if header.flags & END:
            _apply_batch(scanner, pending, apply)
            tail.start, tail.offset, tail.batch = tail.offset, offset, header.batch
            pending = []
    _look_behind(scanner, tail, offset)
    return tail


def make_tail_durable(
    disk: Disk, fd: int, scanner: RecordScanner, tail: Tail, file_size: int
) -> None:
    """Make sure that the last batch is on disk, and that nothing behind it can look live.

    The process before may have died between write and sync, or after a failed sync: the last
    batch is then in the page cache and seems to be there, but never reaches the disk. Writing
    it again makes it so. What an unfinished batch left is overwritten with zeros before the
    next batch takes its place and number. Raises `OSError`.
    """
    _rewrite(disk, fd, scanner, tail.start, tail.offset)
    _clear(disk, fd, tail.offset, tail.dirty_end)
    _clear(disk, fd, file_size - FOOTER_BYTES, file_size)  # of an unfinished sealing
    disk.fdatasync(fd)


def _apply_batch(
    scanner: RecordScanner,
    records: list[tuple[Found, bytes]],
    apply: Callable[[Found, bytes], None],
) -> None:
    for found, payload in records:
        try:
            apply(found, payload)
        except (TypeError, ValueError) as error:
            raise WalCorrupt(scanner.path, found.offset, f"{error}; {READS}") from error


def _look_behind(scanner: RecordScanner, tail: Tail, bad: int) -> None:
    """Judge what stands from `bad` on, where no good record of the next batch does."""
    at = scanner.header(bad)
    sealing = at is not None and at.header.type == INDEX
    next_batch = tail.batch + 1
    end = bad
    for found in scanner.behind(bad):
        if found.header.batch > next_batch:
            raise _behind(scanner, tail, bad, found)
        if found.header.batch == next_batch:
            end = max(end, min(found.end, scanner.limit))
    raw = scanner.raw(bad, HEADER_BYTES) if bad < scanner.limit else b""
    if end == bad and is_partial_header(raw, tail.batch):
        end = bad + len(raw)
    tail.dirty_end = max(end, bad + len(raw.rstrip(b"\0")))
    tail.sealed = sealing and bad == tail.offset
    tail.torn_bytes = 0 if tail.sealed else end - tail.offset


def is_partial_header(raw: bytes, batch: int) -> bool:
    """Whether `raw` looks like the beginning of a record after batch number `batch`."""
    written = raw.rstrip(b"\0")
    if len(written) < len(MAGIC):
        return bool(written) and MAGIC.startswith(written)
    # In a file that is used again an old record may stand here; its batch number is lower.
    number = int.from_bytes(raw[32:40], "little")
    return raw.startswith(MAGIC) and (number == 0 or number > batch)


def _behind(scanner: RecordScanner, tail: Tail, bad: int, found: Found) -> WalCorrupt:
    return WalCorrupt(
        scanner.path,
        bad,
        f"bad record in batch {tail.batch + 1}, and batch {found.header.batch} behind it "
        f"at {found.offset}",
    )


def _rewrite(disk: Disk, fd: int, scanner: RecordScanner, start: int, end: int) -> None:
    while start < end:
        chunk = scanner.raw(start, min(_CHUNK, end - start))
        pwritev_all(disk, fd, [chunk], start)
        start += len(chunk)


def _clear(disk: Disk, fd: int, start: int, end: int) -> None:
    zeros = bytes(min(_CHUNK, max(0, end - start)))
    while start < end:
        part = min(_CHUNK, end - start)
        pwritev_all(disk, fd, [memoryview(zeros)[:part]], start)
        start += part
