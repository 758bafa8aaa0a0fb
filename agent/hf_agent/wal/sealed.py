"""Loading a sealed file: by its index, or by scanning its records where the index is damaged."""

from __future__ import annotations

from crc32c import crc32c

from hf_agent.wal.errors import WalCorrupt
from hf_agent.wal.extents import FileExtents
from hf_agent.wal.file_head import FileHead
from hf_agent.wal.index import (
    DIRECTORY_ENTRY_BYTES,
    FOOTER_BYTES,
    Directory,
    Footer,
    build_index,
)
from hf_agent.wal.log_file import SealedFile
from hf_agent.wal.record import DATA, HEADER_BYTES, INDEX
from hf_agent.wal.scan import Found, RecordScanner
from hf_agent.wal.tail import scan_batches

__all__ = ["load_directory", "load_sealed"]


def load_sealed(
    scanner: RecordScanner, head: FileHead, snapshot: Found, index_batch: int
) -> SealedFile:
    """A sealed file whose INDEX must have batch number `index_batch`.

    `extents` is set in the result when the index was damaged. Raises `WalCorrupt`, `OSError`.
    """
    loaded = load_directory(scanner, head)
    if loaded is None:
        return _scan(scanner.with_large_window(), head, snapshot, index_batch)
    footer, directory = loaded
    if footer.batch != index_batch:
        raise WalCorrupt(
            scanner.path,
            head.size - FOOTER_BYTES,
            f"the file ends with batch {footer.batch}, the next one goes on after {index_batch}",
        )
    return SealedFile(
        scanner.path,
        head.sequence,
        head.size,
        scanner.seed,
        directory,
        footer.index_offset,
        footer.first_time_ns,
    )


def load_directory(scanner: RecordScanner, head: FileHead) -> tuple[Footer, Directory] | None:
    """Footer and directory of a sealed file; None when any of it is damaged."""
    footer = Footer.unpack(scanner.footer(), scanner.seed)
    if footer is None or footer.sequence != head.sequence:
        return None
    found = scanner.header(footer.index_offset)
    length = footer.streams * DIRECTORY_ENTRY_BYTES
    if (
        found is None
        or found.header.type != INDEX
        or found.header.batch != footer.batch
        or found.header.length != footer.index_length
        or length > footer.index_length
    ):
        return None
    data = scanner.raw(footer.index_offset + HEADER_BYTES, length)
    if crc32c(data) != footer.directory_crc:
        return None
    directory = Directory.unpack(data)
    return None if directory is None else (footer, directory)


def _scan(scanner: RecordScanner, head: FileHead, snapshot: Found, index_batch: int) -> SealedFile:
    extents = FileExtents()
    first_time_ns = 0

    def apply(found: Found, _: bytes) -> None:
        nonlocal first_time_ns
        header = found.header
        if header.type != DATA:
            return
        known = extents.streams.get(header.stream)
        if known is not None and known.end != header.position:
            raise ValueError(f"bytes of stream number {header.stream} are missing")
        extents.add(header.stream, header.position, found.offset, header.length)
        first_time_ns = first_time_ns or header.time_ns

    tail = scan_batches(scanner, snapshot.end, snapshot.header.batch, apply)
    if tail.batch != index_batch - 1:
        raise WalCorrupt(
            scanner.path,
            tail.offset,
            f"bad record in a file with a damaged index, after batch {tail.batch} "
            f"of {index_batch - 1}",
        )
    directory, _ = build_index(extents)
    file = SealedFile(
        scanner.path,
        head.sequence,
        head.size,
        scanner.seed,
        directory,
        tail.offset,
        first_time_ns,
    )
    file.extents = extents
    return file
