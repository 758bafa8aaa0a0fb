"""Going on in a new file: snapshot into the spare, seal the open file, give the spare its name.

The order matters. The new file is whole and synced before it has a name in the log; the old one is
sealed and synced before the new one is there. So only the newest file can have a torn end.
"""

from __future__ import annotations

from crc32c import crc32c

from hf_agent.wal.batch import Item, commit_bytes, encode
from hf_agent.wal.disk import Disk, pwritev_all
from hf_agent.wal.file_head import HEAD_BYTES, FileHead, file_name
from hf_agent.wal.files import FileSet, Spare, sync
from hf_agent.wal.index import FOOTER_BYTES, Directory, Footer, build_index
from hf_agent.wal.log_file import OpenFile, SealedFile
from hf_agent.wal.record import HEADER_BYTES, INDEX, SNAPSHOT, file_seed
from hf_agent.wal.snapshot import pack_snapshot

__all__ = ["needed_size", "rotate", "write_file_start"]


def needed_size(file_bytes: int, snapshot_bytes: int, streams: int) -> int:
    """Size of a file with that snapshot: at least three quarters of `file_bytes` stay free."""
    fixed = HEAD_BYTES + HEADER_BYTES + snapshot_bytes + commit_bytes(streams) + FOOTER_BYTES
    need = fixed + file_bytes * 3 // 4
    return max(file_bytes, need + (-need & 4095))


def write_file_start(
    disk: Disk,
    fd: int,
    *,
    wal_id: bytes,
    sequence: int,
    size: int,
    snapshot: bytes,
    batch: int,
    time_ns: int,
) -> int:
    """Write head and SNAPSHOT, and sync; returns where the next record goes."""
    head = FileHead(wal_id, sequence, size, time_ns).pack()
    item = Item(SNAPSHOT, 0, 0, [snapshot], len(snapshot))
    encoded = encode([item], file_seed(wal_id, sequence), HEAD_BYTES, batch, time_ns)
    pwritev_all(disk, fd, [head, *encoded.buffers], 0)
    sync(disk.fsync, fd)
    return HEAD_BYTES + encoded.size


def rotate(files: FileSet, time_ns: int) -> None:
    """Seal the open file and go on in the spare, which must be there.

    Raises `OSError` (nothing has changed; may be tried again) and `SyncFailure`.
    """
    spare = files.spare
    assert spare is not None
    disk, old = files.disk, files.open
    sequence = old.sequence + 1
    tail = _prepare(files, spare, sequence, time_ns)
    directory, index_offset = _seal(files, old, time_ns)
    path = files.directory / file_name(sequence)
    disk.rename(files.spare_path, path)
    sync(disk.fsync_dir, files.directory)
    sealed = SealedFile(
        old.path, old.sequence, old.size, old.seed, directory, index_offset, old.first_time_ns
    )
    seed = file_seed(files.wal_id, sequence)
    files.next_batch += 2  # the INDEX and the SNAPSHOT
    successor = OpenFile(path, sequence, spare.size, seed, spare.handle, tail)
    files.became_sealed(sealed, old.handle, successor)


def _prepare(files: FileSet, spare: Spare, sequence: int, time_ns: int) -> int:
    snapshot = pack_snapshot(files.state)
    size = needed_size(files.config.file_bytes, len(snapshot), len(files.state.streams))
    if spare.size < size:
        files.disk.fallocate(spare.handle.fd, size)
        spare.size = size
    return write_file_start(
        files.disk,
        spare.handle.fd,
        wal_id=files.wal_id,
        sequence=sequence,
        size=spare.size,
        snapshot=snapshot,
        batch=files.next_batch + 1,
        time_ns=time_ns,
    )


def _seal(files: FileSet, old: OpenFile, time_ns: int) -> tuple[Directory, int]:
    directory, parts = build_index(old.extents)
    length = sum(map(len, parts))
    item = Item(INDEX, 0, 0, parts, length, large=True)
    encoded = encode([item], old.seed, old.tail, files.next_batch, time_ns)
    footer = Footer(
        sequence=old.sequence,
        index_offset=old.tail,
        index_length=length,
        streams=len(directory),
        directory_crc=crc32c(parts[0]),
        first_time_ns=old.first_time_ns,
        batch=files.next_batch,
    )
    pwritev_all(files.disk, old.handle.fd, encoded.buffers, old.tail)
    footer_bytes = [footer.pack(old.seed)]
    pwritev_all(files.disk, old.handle.fd, footer_bytes, old.size - FOOTER_BYTES)
    sync(files.disk.fdatasync, old.handle.fd)
    return directory, old.tail
