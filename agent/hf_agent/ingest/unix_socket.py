"""A listening Unix socket's place in the file system: taken with the right owner and mode.

A bound socket refuses connections until it listens, so mode, owner and group are set in between:
nobody gets in before they hold. A file left behind by a process that died is told from one that
is in use by connecting to it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

from hf_agent.ingest.accounts import group_id, user_id
from hf_agent.ingest.credentials import pass_credentials

__all__ = ["MAX_PATH_BYTES", "ListenerError", "bind_unix_socket", "unlink_if_ours"]

MAX_PATH_BYTES = 107
"""`sockaddr_un.sun_path` has 108 bytes, the last of them a zero."""


class ListenerError(OSError):
    """A socket cannot be listened on. One line: what, where, what to do."""


class SocketInUse(ListenerError):
    """Somebody else listens on it."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = errno.EADDRINUSE


def bind_unix_socket(
    path: str | os.PathLike[str],
    *,
    mode: int,
    owner: str,
    group: str,
    kind: socket.SocketKind = socket.SOCK_STREAM,
    credentials: bool = False,
) -> tuple[socket.socket, tuple[int, int]]:
    """A bound socket that does not listen yet, and (device, inode) of its file.

    `owner` and `group` are names or numbers; empty ones are left as they are. With `credentials`
    every datagram says whose it is, from the first one on. Raises `ListenerError`; nothing is left
    behind then, and nothing of anybody else was touched but a stale socket's file.
    """
    name = os.fspath(path)
    if len(os.fsencode(name)) > MAX_PATH_BYTES:
        raise ListenerError(
            f"socket path is too long: choose a shorter one path={name} "
            f"bytes={len(os.fsencode(name))} limit={MAX_PATH_BYTES}"
        )
    uid, gid = _user_id(owner, name), _group_id(group, name)
    _remove_stale(name)
    bound = socket.socket(socket.AF_UNIX, kind)
    try:
        bound.setblocking(False)
        if kind == socket.SOCK_DGRAM:
            # It takes datagrams as soon as it has a name: nobody's, until its mode is set.
            os.fchmod(bound.fileno(), 0)
        if credentials:
            pass_credentials(bound)
        _bind(bound, name)
        place = _place(name)
        try:
            _give(name, uid, gid, mode, owner, group)
        except BaseException:
            unlink_if_ours(name, place)
            raise
    except BaseException:
        bound.close()
        raise
    return bound, place


def unlink_if_ours(path: str | os.PathLike[str], place: tuple[int, int]) -> bool:
    """Remove the socket's file unless another process has put its own there."""
    name = os.fspath(path)
    try:
        if _place(name) != place:
            return False
        Path(name).unlink()
    except OSError:
        # Gone already, or the directory is: there is nothing to leave behind.
        return False
    return True


def _place(name: str) -> tuple[int, int]:
    found = Path(name).lstat()
    return found.st_dev, found.st_ino


def _remove_stale(name: str) -> None:
    try:
        found = Path(name).lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(name, error) from error
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenerError(
            f"path is taken by something that is no socket: move it away path={name}"
        )
    if _is_live(name):
        raise SocketInUse(
            "socket is in use by a running process: stop that process or choose another "
            f"path={name}"
        )
    unlink_if_ours(name, (found.st_dev, found.st_ino))


def _is_live(name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(name)
    if result in (errno.ECONNREFUSED, errno.ENOENT):
        return False
    if result in (0, errno.EAGAIN, errno.EINPROGRESS, errno.EPROTOTYPE):
        # EAGAIN: its backlog is full. EPROTOTYPE: in use for datagrams.
        return True
    raise ListenerError(
        f"cannot tell whether socket is in use: {os.strerror(result)}; remove it if it is not "
        f"path={name}"
    )


def _bind(bound: socket.socket, name: str) -> None:
    try:
        bound.bind(name)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SocketInUse(
                f"socket was just taken by another process: start one only path={name}"
            ) from error
        raise _unusable(name, error) from error


def _unusable(name: str, error: OSError) -> ListenerError:
    directory = Path(name).parent
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        advice = f"create the directory first directory={directory}"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        advice = f"make the directory writable for this user directory={directory}"
    else:
        advice = "choose another path"
    reason = error.strerror or str(error)
    return ListenerError(f"cannot create socket: {reason.lower()}; {advice} path={name}")


def _give(name: str, uid: int, gid: int, mode: int, owner: str, group: str) -> None:
    try:
        if uid != -1 or gid != -1:
            os.chown(name, uid, gid, follow_symlinks=False)
        Path(name).chmod(mode)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ListenerError(
            f"cannot set owner and mode of socket: {reason}; run as root, or as a member of that "
            f"group path={name} owner={owner!r} group={group!r} mode={mode:04o}"
        ) from error


def _user_id(owner: str, name: str) -> int:
    if not owner:
        return -1
    try:
        return user_id(owner)
    except KeyError as error:
        raise ListenerError(f"no such user: set another owner path={name} owner={owner}") from error


def _group_id(group: str, name: str) -> int:
    if not group:
        return -1
    try:
        return group_id(group)
    except KeyError as error:
        raise ListenerError(
            f"no such group: set another group path={name} group={group}"
        ) from error
