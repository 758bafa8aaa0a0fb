"""The first 64 bytes of a log file, and the names of files. Table: `docs/wal-format.md`."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from crc32c import crc32c

from hf_agent.wal.disk import Disk, preadv_all
from hf_agent.wal.errors import WalCorrupt

__all__ = [
    "HEAD_BYTES",
    "LOCK_NAME",
    "READS",
    "REPAIR_MARKER",
    "SPARE_NAME",
    "VERSION",
    "FileHead",
    "file_name",
    "file_sequence",
    "read_head",
]

HEAD_BYTES = 64
VERSION = 1
READS = f"this program reads version {VERSION}"
"""Said where what is read does not look like that."""
LOCK_NAME = "lock"
SPARE_NAME = "spare.tmp"
REPAIR_MARKER = "repair-unfinished.wal"
"""While a repair puts one log in another's place. Its name makes every version refuse to open."""

_MAGIC = b"HFAGWAL\n"
_HEAD = struct.Struct("<8sII16sQQQI")
_CRC = struct.Struct("<I")
_VERSION, _VERSION_AT = struct.Struct("<I"), 8
_NAME = re.compile(r"[0-9a-f]{16}\.wal")


@dataclass(frozen=True, slots=True)
class FileHead:
    """What a log file says of itself."""

    wal_id: bytes
    sequence: int
    size: int
    created_ns: int

    def pack(self) -> bytes:
        """The 64 bytes at offset 0."""
        fields = (self.wal_id, self.sequence, self.size, self.created_ns)
        head = _HEAD.pack(_MAGIC, VERSION, 0, *fields, 0)
        return head + _CRC.pack(crc32c(head))

    @classmethod
    def unpack(cls, data: bytes, path: Path) -> FileHead:
        """The head in `data`. Raises `WalCorrupt`, which names the version where it is unknown."""
        if len(data) < HEAD_BYTES:
            raise WalCorrupt(path, len(data), "the file ends within its head")
        magic, version, _, wal_id, sequence, size, created_ns, _ = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise WalCorrupt(path, 0, "bad magic: this is no file of a write-ahead log")
        checksum = _CRC.unpack_from(data, _HEAD.size)[0]
        if version != VERSION and checksum != _checksum(data, VERSION):
            raise WalCorrupt(
                path,
                8,
                f"unknown format version {version} ({READS}): "
                "use the program that wrote it, and drain the log before going back",
            )
        # A head that is right but for its version was written in this one, and is damaged.
        if version != VERSION or checksum != _checksum(data, version):
            raise WalCorrupt(path, _HEAD.size, "checksum mismatch in the file's head")
        return cls(wal_id, sequence, size, created_ns)


def read_head(disk: Disk, fd: int, path: Path) -> FileHead:
    """The head of an open file. Raises `WalCorrupt`, `OSError`."""
    data = bytearray(min(HEAD_BYTES, disk.size(fd)))
    preadv_all(disk, fd, [memoryview(data)], 0)
    return FileHead.unpack(bytes(data), path)


def _checksum(data: bytes, version: int) -> int:
    """The checksum of that head if its version were this one."""
    head = data[:_VERSION_AT] + _VERSION.pack(version) + data[_VERSION_AT + 4 : _HEAD.size]
    return int(crc32c(head))


def file_name(sequence: int) -> str:
    """`NNNNNNNNNNNNNNNN.wal`: the sequence number in 16 hexadecimal digits."""
    return f"{sequence:016x}.wal"


def file_sequence(name: str) -> int | None:
    """The sequence number in a file's name, or None when it is no such name."""
    return int(name[:16], 16) if _NAME.fullmatch(name) else None
