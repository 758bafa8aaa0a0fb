"""End of file on a `lines` connection means that the agent closed it, never that it died."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket

import pytest

from hf_agent.ingest.edge_poller import EdgePoller
from hf_agent.ingest.held_socket import HeldSocket


def pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.setblocking(False)
    ours.settimeout(10)
    return ours, theirs


def read_all(held: HeldSocket, limit: int = 1 << 20) -> bytes:
    got = bytearray()
    while count := held.available():
        buffer = bytearray(min(count, limit))
        got += buffer[: held.read_into(memoryview(buffer))]
    return bytes(got)


def test_bytes_come_out_once_and_in_order_however_they_are_cut() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        ours, theirs = pair()
        with ours, theirs:
            held = HeldSocket(theirs)
            sent, got = b"", b""
            for _ in range(50):
                data = rng.randbytes(rng.choice((1, 1, 2, 7, 300, 5000)))
                ours.sendall(data)
                sent += data
                if rng.random() < 0.7:
                    got += read_all(held, rng.choice((1, 2, 3, 100, 1 << 20)))
                    assert got == sent, f"seed={seed}"
            assert got + read_all(held) == sent, f"seed={seed}"


@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_killed_reader_resets_the_connection_and_a_closing_one_ends_it(
    acknowledge: bool,
) -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.sendall(b"one\ntwo\n")
        ours.shutdown(socket.SHUT_WR)
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                held = HeldSocket(theirs)
                assert read_all(held) == b"one\ntwo\n"
                if acknowledge:
                    held.close(acknowledge=True)
            finally:
                os.kill(os.getpid(), signal.SIGKILL)
        theirs.close()
        if acknowledge:
            assert ours.recv(1) == b""
        else:
            with pytest.raises(ConnectionResetError):
                ours.recv(1)
        os.waitpid(child, 0)


async def test_the_poller_tells_of_new_bytes_once_and_of_the_end() -> None:
    ours, theirs = pair()
    with ours, theirs:
        poller = EdgePoller()
        held = HeldSocket(theirs)
        events: asyncio.Queue[bool] = asyncio.Queue()
        poller.add(held.fileno(), events.put_nowait)
        ours.send(b"ab")
        assert await asyncio.wait_for(events.get(), 10) is False
        assert read_all(held) == b"ab"
        # A byte is still in the queue: an edge says nothing about it, a level would.
        await asyncio.sleep(0)
        assert events.empty()
        ours.send(b"c")
        assert await asyncio.wait_for(events.get(), 10) is False
        assert read_all(held) == b"c"
        ours.shutdown(socket.SHUT_WR)
        assert await asyncio.wait_for(events.get(), 10) is True
        poller.remove(held.fileno())
        poller.close()
        poller.close()


async def test_what_was_there_before_the_poller_is_told_too() -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.send(b"early")
        ours.close()
        poller = EdgePoller()
        events: asyncio.Queue[bool] = asyncio.Queue()
        poller.add(theirs.fileno(), events.put_nowait)
        assert await asyncio.wait_for(events.get(), 10) is True
        assert read_all(HeldSocket(theirs)) == b"early"
        poller.close()
