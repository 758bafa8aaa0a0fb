"""What a datagram socket is asked to hold, and that the log says when the kernel gives less."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from hf_agent.config import Syslog
from hf_agent.ingest.datagram_queue import queue_length, size_queue
from support.listening import listening

LARGEST = int(Path("/proc/sys/net/core/rmem_max").read_text())


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "s"))
        yield made


def buffer_of(bound: socket.socket) -> int:
    """As it was asked for: the kernel tells the double."""
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2


def test_a_buffer_that_the_kernel_gives_is_set_without_a_word(bound: socket.socket) -> None:
    asked = LARGEST // 2 + 1024
    assert buffer_of(bound) != asked
    with capture_logs() as logs:
        size_queue(bound, "s", receive_buffer=asked, queue=0)
    assert buffer_of(bound) == asked
    assert logs == []


def test_a_buffer_over_the_kernels_limit_is_logged_with_what_there_is(
    bound: socket.socket,
) -> None:
    with capture_logs() as logs:
        size_queue(bound, "s", receive_buffer=LARGEST + 1, queue=0)
    (log,) = logs
    assert (log["asked"], log["given"]) == (LARGEST + 1, buffer_of(bound))
    assert "net.core.rmem_max" in log["event"]


def test_a_queue_longer_than_the_kernels_is_logged_and_one_as_long_is_not(
    bound: socket.socket,
) -> None:
    length = queue_length()
    assert length is not None
    with capture_logs() as logs:
        size_queue(bound, "s", receive_buffer=0, queue=length)
        assert logs == []
        size_queue(bound, "s", receive_buffer=0, queue=length + 1)
    (log,) = logs
    assert (log["asked"], log["given"]) == (length + 1, length)
    assert "net.unix.max_dgram_qlen" in log["event"]


async def test_a_listener_asks_for_what_is_configured(tmp_path: Path) -> None:
    config = Syslog(socket="datagram", receive_buffer_bytes=LARGEST + 1, datagram_queue=1_000_000)
    with capture_logs() as logs:
        async with listening(tmp_path, protocol="syslog", syslog=config):
            pass
    warnings = {log["asked"] for log in logs if log["log_level"] == "warning"}
    assert warnings == {LARGEST + 1, 1_000_000}
