"""How keys of the directory store become paths, and which names it keeps to itself."""

from __future__ import annotations

import os
import re

from hf_agent.store.base import StoreRefused
from hf_agent.store.durable import TEMPORARY_PREFIX
from hf_agent.store.observer import coded

__all__ = ["LOCK_PREFIX", "is_reserved", "key_path", "lock_path", "prefix_directory"]

LOCK_PREFIX = ".hf-lock-"
"""How the name of every lock file begins; the name of the locked file follows."""

_NFS_REMOVED = re.compile(r"\.nfs[0-9a-f]{24}")
"""What an NFS client calls a file that was removed or replaced while it was open."""

MAX_SEGMENT_BYTES = 255 - len(LOCK_PREFIX)
"""Longest segment of a key: the name of its lock file must fit in 255 bytes too."""


def is_reserved(name: str) -> bool:
    """Whether a file name belongs to the store itself, or to NFS, and is never part of a key."""
    return name.startswith((TEMPORARY_PREFIX, LOCK_PREFIX)) or bool(_NFS_REMOVED.fullmatch(name))


def key_path(root: str, key: str) -> str:
    """The path of a key below `root`. Raises `StoreRefused` for a key that can be no path."""
    if fault := _fault(key):
        raise coded(
            StoreRefused(f"the key cannot be a path: {fault}; use another key key={key!r}"),
            "InvalidKey",
        )
    return f"{root}/{key}"


def lock_path(path: str) -> str:
    """The path of the lock file beside `path`."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/{LOCK_PREFIX}{name}"


def prefix_directory(root: str, prefix: str) -> tuple[str, str, str] | None:
    """Where keys with a prefix are: the directory, its key with '/', and how names begin.

    None when no key can start with this prefix.
    """
    parent, slash, start = prefix.rpartition("/")
    if not slash:
        return root, "", start
    if _fault(parent):
        return None
    return f"{root}/{parent}", f"{parent}/", start


def _fault(key: str) -> str:
    """What is wrong with a key, or "" when nothing is."""
    if "\0" in key:
        return "it contains a zero byte"
    for segment in key.split("/"):
        if not segment:
            return "it is empty or has an empty segment (a '/' at an end, or two in a row)"
        if segment in (".", ".."):
            return "it has a '.' or '..' segment"
        if is_reserved(segment):
            return "it has a segment that is named like a file of the store's own"
        try:
            nbytes = len(os.fsencode(segment))
        except UnicodeEncodeError:
            return "it is not valid Unicode"
        if nbytes > MAX_SEGMENT_BYTES:
            return f"a segment has more than {MAX_SEGMENT_BYTES} bytes"
    return ""
