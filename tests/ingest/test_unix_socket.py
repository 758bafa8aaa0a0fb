"""Where a socket's file may be put, and what is said when it may not."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from hf_agent.ingest.unix_socket import (
    MAX_PATH_BYTES,
    ListenerError,
    bind_unix_socket,
    unlink_if_ours,
)


def bind(path: Path, mode: int = 0o660, owner: str = "", group: str = "") -> socket.socket:
    return bind_unix_socket(path, mode=mode, owner=owner, group=group)[0]


def refused(path: Path, **options: str) -> str:
    """The one line that says why; nothing may be left behind."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(ListenerError) as caught:
        bind(path, **options)  # type: ignore[arg-type]
    after = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    assert before == after
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_the_mode_is_set_whatever_the_umask_and_before_anybody_can_connect(
    tmp_path: Path, mode: int
) -> None:
    path = tmp_path / "s"
    before = os.umask(0o077)
    try:
        with bind(path, mode), socket.socket(socket.AF_UNIX) as client:
            assert stat.S_IMODE(path.stat().st_mode) == mode
            with pytest.raises(ConnectionRefusedError):
                client.connect(str(path))
    finally:
        os.umask(before)


def test_owner_and_group_are_set_by_name_or_number_before_anybody_can_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, uid, gid, **_: calls.append((uid, gid)))
    bind(tmp_path / "a", owner="root", group="0").close()
    bind(tmp_path / "b", group="12345").close()
    bind(tmp_path / "c").close()
    assert calls == [(0, 0), (-1, 12345)]


def test_unknown_owner_and_group(tmp_path: Path) -> None:
    assert "no such user" in refused(tmp_path / "s", owner="nobody-of-this-name")
    assert "no such group" in refused(tmp_path / "s", group="nobody-of-this-name")


def test_an_owner_that_may_not_be_set_leaves_no_socket_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_permitted(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chown", not_permitted)
    assert "run as root" in refused(tmp_path / "s", group="1")


def test_a_path_that_is_too_long(tmp_path: Path) -> None:
    room = MAX_PATH_BYTES - len(os.fsencode(tmp_path)) - 1
    bind(tmp_path / ("s" * room)).close()
    message = refused(tmp_path / ("t" * (room + 1)))
    assert "too long" in message and "limit=107" in message


def test_a_directory_that_is_missing(tmp_path: Path) -> None:
    message = refused(tmp_path / "missing" / "s")
    assert "create the directory" in message and str(tmp_path / "missing") in message


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS])
def test_a_directory_that_is_not_writable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    class Unwritable(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(socket, "socket", Unwritable)
    assert "make the directory writable" in refused(tmp_path / "s")


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with bind(path) as bound, socket.socket(socket.AF_UNIX) as client:
        bound.listen()
        client.connect(str(path))


@pytest.mark.parametrize("backlog_is_full", [False, True])
def test_a_live_socket_is_refused_and_left_alone(tmp_path: Path, backlog_is_full: bool) -> None:
    path = tmp_path / "s"
    clients: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(1)
        if backlog_is_full:
            for _ in range(10):
                client = socket.socket(socket.AF_UNIX)
                client.setblocking(False)
                clients.append(client)
                client.connect_ex(str(path))
        assert "in use by a running process" in refused(path)
    for client in clients:
        client.close()


def test_a_live_datagram_socket_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as live:
        live.bind(str(path))
        assert "in use" in refused(path)


def test_something_that_is_no_socket_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    assert "no socket" in refused(path)
    assert path.read_text() == "precious"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert "no socket" in refused(link)
    (tmp_path / "folder").mkdir()
    assert "no socket" in refused(tmp_path / "folder")


def test_a_file_is_removed_only_while_it_is_ours(tmp_path: Path) -> None:
    path = tmp_path / "s"
    ours, place = bind_unix_socket(path, mode=0o600, owner="", group="")
    path.unlink()
    assert not unlink_if_ours(path, place)
    # The first one's inode is still taken while its socket is open.
    theirs, their_place = bind_unix_socket(path, mode=0o600, owner="", group="")
    assert not unlink_if_ours(path, place)
    assert path.exists()
    assert unlink_if_ours(path, their_place)
    assert not path.exists()
    ours.close()
    theirs.close()
