"""Limits of one write-ahead log. Every bound that the package keeps has its name here."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["WalConfig"]

_MAX_FILE_BYTES = 2 << 30
_MIN_FILE_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class WalConfig:
    """Sizes in bytes. Raises `ValueError` when they do not fit each other."""

    file_bytes: int = 64 << 20
    """Size of one log file, preallocated. A file grows beyond it only where its snapshot of all
    streams would leave less than three quarters of it for records."""
    max_bytes: int = 8 << 30
    """Limit of all files together, the spare included; at least two files."""
    max_batch_bytes: int = 4 << 20
    """Limit of one batch (one write and one sync). A single larger append is a batch of its own."""
    max_pending_bytes: int = 16 << 20
    """Bytes that may wait for the disk before `accepts` says no."""
    max_streams: int = 10_000
    max_marks: int = 16_384
    """Marks with a `str` key remembered; the least recently raised one is forgotten first."""
    max_binary_marks: int = 65_536
    """The same for marks with a `bytes` key."""
    max_record_bytes: int = 8 << 20
    """Limit of one append; at most a quarter of a file."""
    max_note_bytes: int = 4096
    """Limit of one stream's note; notes are repeated at the head of each file."""
    max_name_bytes: int = 255
    """Limit of a stream's name and of a mark's key, in UTF-8."""
    index_cache_bytes: int = 8 << 20
    """Memory for index entries of sealed files (or those of one stream in one file)."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"must be a positive whole number {name}={value!r}")
        if not _MIN_FILE_BYTES <= self.file_bytes <= _MAX_FILE_BYTES:
            raise ValueError(
                f"must be between {_MIN_FILE_BYTES} and {_MAX_FILE_BYTES} "
                f"file_bytes={self.file_bytes}"
            )
        if self.max_bytes < 2 * self.file_bytes:
            raise ValueError(
                f"must hold at least two files of file_bytes={self.file_bytes} "
                f"max_bytes={self.max_bytes}"
            )
        if self.max_record_bytes > self.file_bytes // 4:
            raise ValueError(
                f"must be at most a quarter of file_bytes={self.file_bytes} "
                f"max_record_bytes={self.max_record_bytes}"
            )

    @property
    def batch_limit(self) -> int:
        """The limit of a batch in effect: small files ask for small batches."""
        return min(self.max_batch_bytes, self.file_bytes // 8)

    @property
    def pending_limit(self) -> int:
        """The limit of pending bytes in effect: what waits must fit into the reserve file."""
        return min(self.max_pending_bytes, self.file_bytes // 4)
