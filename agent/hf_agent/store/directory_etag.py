"""Etags of the directory store.

Small objects (inodes are 160 bytes) have a digest of their content: equal content, equal etag,
wherever the directory is copied to. A digest of a large object would mean reading all of it for a
range or a `head`; instead its etag names the file: inode number, size and modification time. Files
are never changed in place, so another content means another file; and since a new file may get the
inode number of one just removed, and file systems stamp coarsely, the modification time of a
large object carries 20 random bits below its milliseconds (see `durable.create_file`).
"""

from __future__ import annotations

import hashlib
import os

from hf_agent.store.buffers import Views

__all__ = ["SMALL_BYTES", "content_etag", "file_etag"]

SMALL_BYTES = 64 * 1024
"""Up to this many bytes the etag is a digest of the content."""


def content_etag(views: Views) -> str:
    """Etag of an object by its bytes: BLAKE2b, 128 bits, as hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for view in views:
        digest.update(view)
    return digest.hexdigest()


def file_etag(stat: os.stat_result) -> str:
    """Etag of an object by its file."""
    return f"{stat.st_ino:x}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
