"""A cache of chunks in a directory, shared by all processes that name it.

A chunk is a file: 16 bytes of head, then its bytes.

    0 magic "hfcache1" · 8 u32 CRC-32C of key and bytes · 12 u32 number of bytes (little-endian)

The head is checked at every read: a file that was cut, damaged or written by something else is a
miss, and goes. Nothing is synced, and nothing depends on what is here: the directory may be emptied
at any time. A file's modification time is when it was last of use, to the minute; when there is too
much, the oldest go.
"""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from crc32c import crc32c

from hf_agent.clock import Clock

__all__ = ["DiskCache"]

_MAGIC = b"hfcache1"
_HEAD = struct.Struct("<8sII")
_SUFFIX = ".chunk"
_PARTIAL = ".partial"
_USED_STEP = 60.0
_OLD_PARTIAL = 3600.0
"""Seconds after which a partial file has certainly been left by a process that is gone."""
_SHARE = 16
"""A process looks at the whole directory each time it has written this part of the limit."""
_KEPT = 0.9
"""Part of the limit that is kept when room is made."""


class DiskCache:
    """Implements `ChunkCache` in `directory` within `max_bytes`.

    Each process makes room after writing a sixteenth of `max_bytes`, so n of them that write at the
    same time can hold up to n sixteenths more for a moment. What the disk refuses (full, read-only,
    gone) is a miss, never an error.
    """

    takes_scans = True

    def __init__(
        self, directory: Path, max_bytes: int, *, clock: Clock, rng: random.Random
    ) -> None:
        if max_bytes <= 0:
            raise ValueError(f"a cache has room for something max_bytes={max_bytes}")
        self.directory = directory
        self.max_bytes = max_bytes
        self._clock = clock
        self._rng = rng
        self._until_look = 0  # look at what is there before the first chunk is added

    async def get(self, key: bytes) -> bytes | None:
        """See `ChunkCache.get`."""
        return await asyncio.to_thread(self._get, key)

    async def put(self, key: bytes, chunk: bytes) -> None:
        """See `ChunkCache.put`."""
        if _HEAD.size + len(chunk) <= self.max_bytes // _SHARE:
            name = f"{self._rng.getrandbits(64):016x}{_PARTIAL}"
            await asyncio.to_thread(self._put, key, chunk, name)

    def _get(self, key: bytes) -> bytes | None:
        path = self._path(key)
        try:
            with path.open("rb") as file:
                held = file.read()
                used = os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        chunk = _checked(key, held)
        try:
            if chunk is None:
                path.unlink()
            elif self._clock.time() - used > _USED_STEP:
                now = self._clock.time()
                os.utime(path, (now, now))
        except OSError:
            pass  # another process was faster, or the directory is not ours to change
        return chunk

    def _put(self, key: bytes, chunk: bytes, name: str) -> None:
        path = self._path(key)
        partial = path.with_name(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("xb") as file:
                file.write(_HEAD.pack(_MAGIC, crc32c(chunk, crc32c(key)), len(chunk)))
                file.write(chunk)
            now = self._clock.time()
            os.utime(partial, (now, now))
            # Whole or not at all, for readers in other processes.
            partial.replace(path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            return
        self._until_look -= _HEAD.size + len(chunk)
        if self._until_look <= 0:
            self._make_room()
            self._until_look = self.max_bytes // _SHARE

    def _make_room(self) -> None:
        """Remove the files used longest ago until there is room; other processes may do it too."""
        now = self._clock.time()
        found: list[tuple[float, int, Path]] = []
        total = 0
        for path in self._files(_SUFFIX):
            try:
                status = path.stat()
            except OSError:
                continue
            found.append((status.st_mtime, status.st_size, path))
            total += status.st_size
        for path in self._files(_PARTIAL):
            try:
                if now - path.stat().st_mtime > _OLD_PARTIAL:
                    path.unlink()
            except OSError:
                continue
        if total <= self.max_bytes:
            return
        for _, size, path in sorted(found):
            if total <= self.max_bytes * _KEPT:
                return
            try:
                path.unlink()
            except OSError:
                continue
            total -= size

    def _files(self, suffix: str) -> Iterator[Path]:
        """What is there now. Folders may go at any time: `glob` would raise."""
        for folder in _entries(self.directory):
            for path in _entries(folder):
                if path.name.endswith(suffix):
                    yield path

    def _path(self, key: bytes) -> Path:
        name = blake2b(key, digest_size=20).hexdigest()
        return self.directory / name[:2] / f"{name[2:]}{_SUFFIX}"


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _checked(key: bytes, held: bytes) -> bytes | None:
    """The chunk in a file's bytes, if they are what was written for `key`."""
    if len(held) < _HEAD.size:
        return None
    magic, checksum, length = _HEAD.unpack_from(held)
    chunk = held[_HEAD.size :]
    if magic != _MAGIC or length != len(chunk) or crc32c(chunk, crc32c(key)) != checksum:
        return None
    return chunk
