"""What the files of a log hold, for people: tolerant of damage, read-only, without a lock.

On a log that is in use, the end of the newest file may be seen while it is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_agent.wal.disk import Disk, OsDisk, preadv_all
from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.file_head import HEAD_BYTES, FileHead, file_sequence
from hf_agent.wal.handle import Handle
from hf_agent.wal.record import END, FILL, INDEX, SNAPSHOT, STREAM, TYPE_NAMES, file_seed
from hf_agent.wal.scan import Found, RecordScanner
from hf_agent.wal.sealed import load_directory
from hf_agent.wal.snapshot import unpack_snapshot
from hf_agent.wal.state import Marks

__all__ = ["Finding", "inspect_wal"]

_OS_DISK = OsDisk()


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in one file."""

    file: Path
    offset: int
    kind: str
    """`file`, a record type (`data`, `stream`, `note`, `marks`, `snapshot`, `index`, `commit`),
    `end` (where the log ends in this file), `torn` (an unfinished batch) or `damage`."""
    message: str
    """One line for people."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """The figures, as plain JSON types."""


def inspect_wal(directory: Path, *, disk: Disk = _OS_DISK) -> Iterator[Finding]:
    """Everything in the log's files, oldest first. Raises `OSError` when they cannot be read."""
    names: dict[int, str] = {}
    expected: int | None = None
    wal_id: bytes | None = None
    paths = sorted(name for name in disk.listdir(directory) if name.endswith(".wal"))
    for name in paths:
        path = directory / name
        sequence = file_sequence(name)
        if sequence is None:
            yield Finding(path, 0, "damage", "not a file of this log by its name")
            continue
        if expected is not None and sequence != expected:
            yield Finding(path, 0, "damage", f"the file before is missing, sequence {expected:x}")
        expected = sequence + 1
        handle = Handle(disk, disk.open(path, os.O_RDONLY))
        try:
            head = _head(disk, handle, path)
        except WalCorrupt as error:
            yield Finding(path, error.offset, "damage", error.reason)
            continue
        yield _file(path, head)
        wal_id = wal_id or head.wal_id
        size = disk.size(handle.fd)
        if head.wal_id != wal_id:
            yield Finding(path, 16, "damage", "the file belongs to another write-ahead log")
        elif head.sequence != sequence:
            yield Finding(path, 32, "damage", f"a copy of the file {head.sequence:x}")
        elif head.size != size:
            text = f"the file has {size} bytes, its head says {head.size}"
            yield Finding(path, min(size, head.size), "damage", text)
        else:
            seed = file_seed(head.wal_id, head.sequence)
            scanner = RecordScanner(disk, handle, path, seed, size)
            yield from _records(scanner, names, newest=name == paths[-1])
            if name != paths[-1] and load_directory(scanner, head) is None:
                yield Finding(path, scanner.limit, "damage", "the index or the footer is damaged")


def _head(disk: Disk, handle: Handle, path: Path) -> FileHead:
    data = bytearray(min(HEAD_BYTES, disk.size(handle.fd)))
    preadv_all(disk, handle.fd, [memoryview(data)], 0)
    return FileHead.unpack(bytes(data), path)


def _file(path: Path, head: FileHead) -> Finding:
    details = {
        "wal_id": head.wal_id.hex(),
        "sequence": head.sequence,
        "size": head.size,
        "created": head.created_ns / 1e9,
    }
    return Finding(path, 0, "file", f"sequence {head.sequence:x}, {head.size} bytes", details)


def _records(scanner: RecordScanner, names: dict[int, str], *, newest: bool) -> Iterator[Finding]:
    offset = HEAD_BYTES
    batch = -1  # of the last record that was not stale
    unfinished: int | None = None  # where a batch without its end begins
    while True:
        found = scanner.header(offset)
        if found is None or found.header.batch < batch:
            behind = _next_live(scanner, offset, batch)
            if behind is None:
                break
            text = f"no valid record for {behind.offset - offset} bytes, and live ones behind"
            yield Finding(scanner.path, offset, "damage", text)
            found = behind
        header = found.header
        good = scanner.payload_is_good(found)
        if not good and newest and _next_live(scanner, found.end, header.batch + 1) is None:
            # Of the last batch: an unfinished write, as the next start takes it.
            unfinished = found.offset if unfinished is None else unfinished
            offset = found.end
            break
        if good:
            _learn(scanner, found, names)
            yield _record(scanner.path, found, names)
        else:
            text = f"checksum mismatch in a {TYPE_NAMES.get(header.type, 'strange')} record"
            yield Finding(scanner.path, found.offset, "damage", text)
        batch = header.batch
        if header.flags & END:
            unfinished = None
        elif unfinished is None:
            unfinished = found.offset
        offset = found.end
        if good and header.type == INDEX:
            break
    if unfinished is not None:
        text = f"an unfinished batch of {offset - unfinished} bytes"
        yield Finding(scanner.path, unfinished, "torn", text)
    text = f"the records end here, {scanner.limit - offset} bytes are free"
    yield Finding(scanner.path, offset, "end", text, {"free": scanner.limit - offset})


def _next_live(scanner: RecordScanner, offset: int, batch: int) -> Found | None:
    for found in scanner.behind(offset):
        if found.header.batch >= batch and found.end <= scanner.limit:
            return found
    return None


def _learn(scanner: RecordScanner, found: Found, names: dict[int, str]) -> None:
    if found.header.type == STREAM:
        names[found.header.stream] = scanner.payload(found).decode(errors="replace")
    elif found.header.type == SNAPSHOT:
        try:
            state = unpack_snapshot(scanner.payload(found), Marks(1, 1))
        except ValueError:
            return  # the record is shown all the same, its streams stay numbers
        names.update((number, stream.name) for number, stream in state.streams.items())


def _record(path: Path, found: Found, names: dict[int, str]) -> Finding:
    header = found.header
    kind = TYPE_NAMES.get(header.type, "damage")
    name = names.get(header.stream, "")
    details: dict[str, Any] = {
        "type": header.type,
        "length": header.length,
        "batch": header.batch,
        "end": bool(header.flags & END),
        "time": header.time_ns / 1e9,
    }
    text = f"{header.length} bytes, batch {header.batch}"
    if header.stream:
        details |= {"stream": name, "number": header.stream, "position": header.position}
        text = f"{name or header.stream} at {header.position}, {text}"
        if header.flags & FILL:
            details["fill"] = True
            text += ", zeros in the place of lost bytes"
    if kind == "damage":
        text = f"unknown record type {header.type}, {text}"
    return Finding(path, found.offset, kind, text, details)
