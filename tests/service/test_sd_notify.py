"""Word to the service manager, received by a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.service.sd_notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and what it puts into NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(10)
        if request.param == "path":
            address = str(tmp_path / "notify")
            receiver.bind(address)
        else:
            address = f"@hf-agent-test-{os.getpid()}"
            receiver.bind("\0" + address[1:])
        yield receiver, address


def test_messages_arrive_one_a_datagram(manager: tuple[socket.socket, str]) -> None:
    receiver, address = manager
    notifier = Notifier.from_environment(
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    )
    assert notifier.watchdog_interval == 15.0
    notifier.ready("2 sockets")
    notifier.status("one\nline")
    notifier.reloading(12.5)
    notifier.watchdog()
    notifier.stopping()
    assert [receiver.recv(4096) for _ in range(5)] == [
        b"READY=1\nSTATUS=2 sockets",
        b"STATUS=one line",
        b"RELOADING=1\nMONOTONIC_USEC=12500000",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]
    notifier.close()
    notifier.close()
    notifier.ready()


def test_the_watchdog_is_fed_only_when_it_is_asked_for(
    manager: tuple[socket.socket, str],
) -> None:
    receiver, address = manager
    for environment in ({}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "x"}):
        notifier = Notifier.from_environment({"NOTIFY_SOCKET": address, **environment})
        assert notifier.watchdog_interval == 0
        notifier.watchdog()
        notifier.status("after")
        assert receiver.recv(4096) == b"STATUS=after"
        notifier.close()


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/notify", "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready()
    notifier.stopping()
    notifier.close()


def test_a_manager_that_does_not_read_cannot_make_the_agent_wait(
    manager: tuple[socket.socket, str],
) -> None:
    notifier = Notifier(manager[1])
    for _ in range(10_000):
        notifier.status("x" * 1000)
    notifier.close()
