"""Index entries of sealed files that were read lately, within a bound on their memory."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Final

from hf_agent.wal.index import ENTRY_BYTES, Entries
from hf_agent.wal.log_file import SealedFile

__all__ = ["IndexCache"]

_OVERHEAD: Final = 640
"""Bytes that the entries of one stream in one file take beside themselves: two arrays, their tuple,
the key, and their place here. Most have few records, and then this is nearly all of it."""


class IndexCache:
    """What it holds of a file goes with the file. Any thread, several at once."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` of memory, or one stream's entries of one file if those are larger."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[int, int], Entries] = OrderedDict()
        """By the file's sequence and the stream's number, the least recently used first."""
        self._lock = Lock()
        self.nbytes = 0
        """Memory taken, about."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, file: SealedFile, number: int) -> Entries | None:
        """The entries of stream `number` in `file`, if they are here."""
        with self._lock:
            entries = self._entries.get((file.sequence, number))
            if entries is not None:
                self._entries.move_to_end((file.sequence, number))
            return entries

    def add(self, file: SealedFile, number: int, entries: Entries) -> None:
        """Keep them, unless the file is no longer part of the log."""
        with self._lock:
            key = (file.sequence, number)
            if file.is_freed or key in self._entries:
                return
            self._entries[key] = entries
            self.nbytes += _size(entries)
            while self.nbytes > self._max_bytes and len(self._entries) > 1:
                _, dropped = self._entries.popitem(last=False)
                self.nbytes -= _size(dropped)

    def forget(self, file: SealedFile) -> None:
        """Drop what is here of a file that is freed, and take nothing of it any more."""
        file.is_freed = True
        with self._lock:
            for key in [key for key in self._entries if key[0] == file.sequence]:
                self.nbytes -= _size(self._entries.pop(key))


def _size(entries: Entries) -> int:
    return _OVERHEAD + ENTRY_BYTES * len(entries.ends)
