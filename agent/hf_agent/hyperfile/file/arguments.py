"""Arguments as callers of a file give them, checked."""

from __future__ import annotations

import errno

from hf_agent.hyperfile.file.options import MAX_FILE_BYTES

__all__ = ["byte_view", "check_end", "checked_attributes"]

_U32 = 0xFFFF_FFFF
_MAX_NS = (1 << 64) * 1_000_000_000 - 1
_TYPE_BITS = 0o170000


def byte_view(data: bytes | bytearray | memoryview) -> memoryview:
    """The bytes of anything that has some; a copy only where they are not in one piece.

    Raises `TypeError`.
    """
    view = memoryview(data)
    return view.cast("B") if view.contiguous else memoryview(view.tobytes())


def check_end(offset: int, length: int, *, key: str) -> None:
    """Raises `ValueError` for a negative offset, `OSError(EFBIG)` past the longest file."""
    if offset < 0:
        raise ValueError(f"an offset or a size is not negative value={offset}")
    if offset + length > MAX_FILE_BYTES:
        raise OSError(errno.EFBIG, f"a file has at most 2^63-1 bytes key={key}")


def checked_attributes(
    current_mode: int,
    *,
    mode: int | None,
    uid: int | None,
    gid: int | None,
    atime_ns: int | None,
    mtime_ns: int | None,
) -> dict[str, int]:
    """The attributes that are given; a mode without a file type gets the current one.

    Raises `ValueError` for what an inode does not hold.
    """
    if mode is not None and not mode & _TYPE_BITS:
        mode |= current_mode & _TYPE_BITS
    given: dict[str, int] = {}
    for name, value, limit in (
        *(("mode", mode, _U32), ("uid", uid, _U32), ("gid", gid, _U32)),
        *(("atime_ns", atime_ns, _MAX_NS), ("mtime_ns", mtime_ns, _MAX_NS)),
    ):
        if value is None:
            continue
        if not 0 <= value <= limit:
            raise ValueError(f"an inode holds 0 to {limit} here {name}={value}")
        given[name] = value
    return given
