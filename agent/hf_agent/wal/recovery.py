"""From the files of a directory to the state at the end of the log.

Sealed files tell what they hold by their index; the newest file is scanned. What must be cut off
its end is decided by `hf_agent.wal.tail`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hf_agent.wal.batch import unpack_commits
from hf_agent.wal.config import WalConfig
from hf_agent.wal.disk import Disk
from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.file_head import (
    HEAD_BYTES,
    READS,
    REPAIR_MARKER,
    SPARE_NAME,
    FileHead,
    file_sequence,
    read_head,
)
from hf_agent.wal.handle import Handle
from hf_agent.wal.log_file import OpenFile, SealedFile
from hf_agent.wal.record import COMMIT, DATA, HEADER_BYTES, MARKS, NOTE, SNAPSHOT, STREAM, file_seed
from hf_agent.wal.scan import Found, RecordScanner
from hf_agent.wal.sealed import load_sealed
from hf_agent.wal.snapshot import unpack_marks, unpack_snapshot
from hf_agent.wal.state import LogState, Marks, StreamState
from hf_agent.wal.tail import make_tail_durable, scan_batches

__all__ = ["Recovered", "Recovery", "is_successor", "list_files", "recover"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening the log found."""

    files: int = 0
    records: int = 0
    """DATA records."""
    bytes: int = 0
    """Their payload bytes."""
    streams: int = 0
    torn: tuple[Path, int, int] | None = None
    """File, offset and bytes of an unfinished batch that was cut off; never acknowledged."""
    corruptions: int = 0
    """Damaged indexes that were replaced by scanning the records."""
    seconds: float = 0.0


@dataclass(slots=True)
class Recovered:
    """The log as it was found, ready to go on."""

    wal_id: bytes
    state: LogState
    sealed: list[SealedFile]
    open_file: OpenFile
    next_batch: int
    torn: tuple[Path, int, int] | None
    corruptions: int


def list_files(disk: Disk, directory: Path) -> list[Path]:
    """The log's files, oldest first. Raises `WalCorrupt` for a strange or a missing one."""
    names = sorted(name for name in disk.listdir(directory) if name.endswith(".wal"))
    paths = []
    last = None
    if REPAIR_MARKER in names:
        reason = "a repair was cut off: let `hf-agent wal repair` finish it"
        raise WalCorrupt(directory / REPAIR_MARKER, 0, reason)
    for name in names:
        path = directory / name
        sequence = file_sequence(name)
        if sequence is None:
            raise WalCorrupt(path, 0, "a file that is not of this log; move it elsewhere")
        if last is not None and sequence != last + 1:
            raise WalCorrupt(path, 0, f"the file before this one is missing, sequence {last + 1:x}")
        last = sequence
        paths.append(path)
    return paths


def recover(disk: Disk, paths: list[Path], config: WalConfig) -> Recovered:
    """Read the log in `paths` (not empty) and cut an unfinished batch off its end.

    Raises `WalCorrupt` before anything is changed, and `OSError`.
    """
    newest = paths[-1]
    head, handle = _open(disk, newest, None, os.O_RDWR)
    wal_id = head.wal_id
    scanner = _scanner(disk, handle, newest, head)
    snapshot, state = _snapshot(scanner, Marks(config.max_marks, config.max_binary_marks))

    sealed, corruptions = _load_sealed(disk, paths[:-1], wal_id, snapshot.header.batch)
    open_file = OpenFile(newest, head.sequence, head.size, scanner.seed, handle, snapshot.end)
    _check_continuity(sealed, state, newest)

    apply = _Apply(state, open_file)
    tail = scan_batches(scanner, snapshot.end, snapshot.header.batch, apply)
    open_file.tail = tail.offset
    if tail.sealed and not is_successor(disk, newest.parent, wal_id, head.sequence + 1):
        raise WalCorrupt(
            newest,
            tail.offset,
            f"the file was sealed, and the next one is missing, sequence {head.sequence + 1:x}",
        )
    _check_committed(sealed, state, open_file)
    make_tail_durable(disk, handle.fd, scanner, tail, head.size)
    torn = (newest, tail.offset, tail.torn_bytes) if tail.torn_bytes else None
    return Recovered(wal_id, state, sealed, open_file, tail.batch + 1, torn, corruptions)


def is_successor(disk: Disk, directory: Path, wal_id: bytes, sequence: int) -> bool:
    """Whether the spare was made the file with that sequence number, and only lacks its name."""
    if SPARE_NAME not in disk.listdir(directory):
        return False
    path = directory / SPARE_NAME
    handle = Handle(disk, disk.open(path, os.O_RDONLY))
    try:
        head = read_head(disk, handle.fd, path)
    except WalCorrupt:
        return False
    return (head.wal_id, head.sequence) == (wal_id, sequence)


def _open(disk: Disk, path: Path, wal_id: bytes | None, flags: int) -> tuple[FileHead, Handle]:
    handle = Handle(disk, disk.open(path, flags))
    size = disk.size(handle.fd)
    head = read_head(disk, handle.fd, path)
    if head.sequence != file_sequence(path.name):
        raise WalCorrupt(path, 32, f"this is a copy of the file with sequence {head.sequence:x}")
    if wal_id is not None and head.wal_id != wal_id:
        raise WalCorrupt(path, 16, "the file belongs to another write-ahead log")
    if head.size != size:
        raise WalCorrupt(
            path, min(head.size, size), f"the file has {size} bytes, its head says {head.size}"
        )
    return head, handle


def _scanner(
    disk: Disk, handle: Handle, path: Path, head: FileHead, window: int = 1 << 20
) -> RecordScanner:
    seed = file_seed(head.wal_id, head.sequence)
    return RecordScanner(disk, handle, path, seed, head.size, window)


def _snapshot(scanner: RecordScanner, marks: Marks) -> tuple[Found, LogState]:
    found = _snapshot_header(scanner)
    if not scanner.payload_is_good(found):
        raise WalCorrupt(scanner.path, found.offset, "checksum mismatch in the snapshot")
    try:
        return found, unpack_snapshot(scanner.payload(found), marks)
    except ValueError as error:
        reason = f"unreadable snapshot: {error}; {READS}"
        raise WalCorrupt(scanner.path, found.offset, reason) from error


def _snapshot_header(scanner: RecordScanner) -> Found:
    found = scanner.header(HEAD_BYTES)
    if found is None or found.header.type != SNAPSHOT:
        raise WalCorrupt(scanner.path, HEAD_BYTES, "no snapshot at the start of the file")
    return found


def _load_sealed(
    disk: Disk, paths: list[Path], wal_id: bytes, next_snapshot: int
) -> tuple[list[SealedFile], int]:
    """The sealed files, and how many of them had a damaged index."""
    files: list[SealedFile] = []
    damaged = 0
    # Newest first: the batch number of each file's snapshot tells where the one before must end.
    for path in reversed(paths):
        head, handle = _open(disk, path, wal_id, os.O_RDONLY)
        # Of a sealed file only some headers are read.
        scanner = _scanner(disk, handle, path, head, HEADER_BYTES)
        snapshot = _snapshot_header(scanner)
        file = load_sealed(scanner, head, snapshot, next_snapshot - 1)
        damaged += file.extents is not None
        files.append(file)
        next_snapshot = snapshot.header.batch
    files.reverse()
    return files, damaged


def _check_continuity(sealed: list[SealedFile], state: LogState, newest: Path) -> None:
    """Each stream must go on in each file where the one before left it, up to the snapshot."""
    reached: dict[int, int] = {}
    for file in sealed:
        directory = file.directory
        rows = zip(directory.numbers, directory.firsts, directory.ends, strict=True)
        for number, first, end in rows:
            stream = state.streams.get(number)
            if stream is None:
                raise WalCorrupt(newest, HEAD_BYTES, f"the snapshot lacks stream number {number}")
            if number not in reached:
                stream.first = first
            elif reached[number] != first:
                raise WalCorrupt(file.path, file.index_offset, _gap(stream, reached[number], first))
            reached[number] = end
    for number, stream in state.streams.items():
        if reached.get(number, stream.position) != stream.position:
            raise WalCorrupt(newest, HEAD_BYTES, _gap(stream, reached[number], stream.position))
        if number not in reached:
            stream.first = stream.position


def _check_committed(sealed: list[SealedFile], state: LogState, open_file: OpenFile) -> None:
    """Bytes that are in no file any more must have been committed when they left."""
    oldest = sealed[0].path if sealed else open_file.path
    for stream in state.streams.values():
        if stream.committed < stream.first:
            gap = _gap(stream, stream.committed, stream.first)
            raise WalCorrupt(oldest, 0, f"a file before this one is missing: {gap}")


def _gap(stream: StreamState, end: int, first: int) -> str:
    return f"bytes {end} to {first} of stream {stream.name!r} are missing"


class _Apply:
    """Takes the records of whole batches into the state."""

    def __init__(self, state: LogState, open_file: OpenFile) -> None:
        self._state = state
        self._file = open_file
        self._names = {stream.name for stream in state.streams.values()}

    def __call__(self, found: Found, payload: bytes) -> None:
        """Apply one record; `payload` is empty for DATA. Raises `ValueError`."""
        header = found.header
        streams = self._state.streams
        if header.type == DATA:
            stream = self._stream(header.stream)
            if header.position != stream.position or header.length == 0:
                raise ValueError(_gap(stream, stream.position, header.position))
            self._file.extents.add(header.stream, header.position, found.offset, header.length)
            self._file.first_time_ns = self._file.first_time_ns or header.time_ns
            stream.position = stream.durable = header.position + header.length
        elif header.type == STREAM:
            name = payload.decode()
            if header.stream in streams or name in self._names:
                raise ValueError(f"stream {name!r} appears twice")
            streams[header.stream] = StreamState(name, header.stream)
            self._names.add(name)
        elif header.type == NOTE:
            stream = self._stream(header.stream)
            stream.note = stream.durable_note = payload
        elif header.type == MARKS:
            for key, value in unpack_marks(payload).items():
                self._state.marks.move(key, value)
        elif header.type == COMMIT:
            for number, position in unpack_commits(payload):
                stream = self._stream(number)
                stream.committed = max(stream.committed, position)
        else:
            raise ValueError(f"unexpected record type {header.type}")

    def _stream(self, number: int) -> StreamState:
        stream = self._state.streams.get(number)
        if stream is None:
            raise ValueError(f"unknown stream number {number}")
        return stream
