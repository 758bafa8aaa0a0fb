"""The kernel's word on who is at the other end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hf_agent.ingest.credentials import NOBODY, peer_credentials

CONNECT = """
import socket, sys
with socket.socket(socket.AF_UNIX) as client:
    client.connect(sys.argv[1])
    client.recv(1)
"""


def test_a_pair_has_the_credentials_of_this_process() -> None:
    one, other = socket.socketpair()
    with one, other:
        found = peer_credentials(one)
    assert (found.pid, found.uid, found.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert found.groups >= set(os.getgroups()) - {found.gid}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a process other groups")
@pytest.mark.parametrize("number", [1, 256, 257])
def test_up_to_256_supplementary_groups_are_told(tmp_path: Path, number: int) -> None:
    path = str(tmp_path / "s")
    groups = [20_000 + index for index in range(number)]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with subprocess.Popen(
            [sys.executable, "-c", CONNECT, path], extra_groups=groups, group=10_000
        ) as client:
            connection, _ = listening.accept()
            with connection:
                found = peer_credentials(connection)
            assert client.wait() == 0
    assert (found.pid, found.uid, found.gid) == (client.pid, 0, 10_000)
    assert found.groups == (set(groups) if number <= 256 else set())


def test_a_socket_without_a_peer_has_nobodys() -> None:
    with socket.socket(socket.AF_INET) as other:
        assert peer_credentials(other) == NOBODY
