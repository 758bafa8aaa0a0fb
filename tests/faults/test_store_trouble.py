"""The store is away, silent, slow or refusing: appends go on, and all of it arrives once."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.containers import read_container
from support.moto_s3 import MotoS3, moto_s3
from support.relay import Relay

__all__ = ["moto_s3"]

RECORD = bytes(60_000)


@pytest.fixture
def relay(moto_s3: MotoS3) -> Iterator[Relay]:
    relay = Relay(moto_s3.endpoint_url)
    yield relay
    relay.close()


def make_agent(folder: Path, relay: Relay, server: MotoS3, *, when_full: str) -> AgentProcess:
    return AgentProcess(
        folder,
        store_url=f"s3://{server.make_bucket()}/logs",
        s3={"endpoint_url": relay.url, "addressing": "path"},
        env=server.env,
        max_record_bytes="64KiB",
        wal=f'when_full = "{when_full}"\nfile_bytes = "1MiB"\nmax_bytes = "6MiB"\n'
        'max_batch_bytes = "256KiB"\nmax_pending_bytes = "512KiB"',
        flush='interval = "50ms"\nbytes = "512KiB"\nretry_min = "20ms"\nretry_max = "200ms"',
    )


@pytest.mark.parametrize("mode", ["away", "silent", "slow", "503", "403"])
def test_appends_go_on_until_the_wal_is_full_and_everything_arrives_once(
    tmp_path: Path, moto_s3: MotoS3, relay: Relay, mode: str
) -> None:
    relay.set(mode)
    agent = make_agent(tmp_path / "a", relay, moto_s3, when_full="block").start()
    expected = [b"%06d" % number + RECORD for number in range(250)]
    sent = threading.Event()

    def send() -> None:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            for data in expected:
                client.append("app", data)
        sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        if mode != "slow":
            assert relay.refused.acquire(timeout=60)
            # 15 MB do not go into a WAL of 6 MiB: the client waits, and nothing is refused.
            wait_until(agent, lambda status: status["wal"]["state"] == "full")
            assert not sent.is_set()
            assert agent.get("/healthz")[0] == 200
            status, reasons = agent.get("/readyz")
            assert status == 503
            assert "WAL full" in reasons
            if mode == "403":
                wait_until(agent, lambda status: any("refused" in x for x in status["reasons"]))
        relay.set("pass")
        sender.join(120)
        assert sent.is_set(), agent.log_text()
        assert agent.stop() == 0, agent.log_text()
    finally:
        relay.set("pass")
        agent.close()
        sender.join(120)
    assert asyncio.run(read_container(agent, "node-1/app")) == b"".join(expected)


def test_a_full_wal_that_rejects_says_so_and_the_client_goes_on_when_there_is_room(
    tmp_path: Path, moto_s3: MotoS3, relay: Relay
) -> None:
    relay.set("away")
    agent = make_agent(tmp_path / "a", relay, moto_s3, when_full="reject").start()
    try:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            for number in range(150):
                client.append("app", b"%06d" % number + RECORD)
            wait_until(agent, lambda status: status["wal"]["state"] == "full")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lines:
                lines.settimeout(60)
                lines.connect(str(agent.lines_socket))
                lines.sendall(b"no room for this\n")
                assert lines.recv(4096).startswith(b"error wal_full")
            refused = 'hf_agent_rejected_records_total{protocol="lines",reason="wal_full"} 1.0'
            assert refused in agent.get("/metrics")[1]
            relay.set("pass")
        assert agent.stop() == 0, agent.log_text()
    finally:
        relay.set("pass")
        agent.close()
    stored = asyncio.run(read_container(agent, "node-1/app"))
    assert stored == b"".join(b"%06d" % number + RECORD for number in range(150))


def wait_until(agent: AgentProcess, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Ask for the status until the condition holds."""
    pause = threading.Event()
    for _ in range(1200):
        status = json.loads(agent.get("/api/status")[1])
        if condition(status):
            return
        pause.wait(0.05)
    raise AssertionError(f"it did not come to that: {status}\n{agent.log_text()}")
