"""What the status page is told: history, flushes, errors, peers, each within its bound."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_agent.client import Client, fresh_producer
from hf_agent.ingest.peers import Peer, command_of
from hf_agent.metrics import Metrics
from hf_agent.recent import RecentEvents
from hf_agent.service.history import POINTS, STEP, History, Sums
from hf_agent.service.overview import MOST_PEERS, Overview, limited_peers
from support.agent_process import AgentProcess
from support.manual_clock import ManualClock


def sums(number: int, latencies: tuple[int, ...] = (0, 0, 0)) -> Sums:
    return Sums(10 * number, 1000 * number, 500 * number, 7_000_000, latencies)


def test_points_are_rates_between_two_moments() -> None:
    history = History((0.1, 1.0))
    history.take(100.0, sums(0))
    history.take(102.0, sums(1, (4, 0, 0)))
    history.take(106.0, sums(2, (4, 3, 1)))
    assert history.describe() == {
        "step_seconds": STEP,
        "points": POINTS,
        "received_records": [5.0, 2.5],
        "received_bytes": [500, 250],
        "flushed_bytes": [250, 125],
        "wal_bytes": [7_000_000, 7_000_000],
        "latency_p50": [0.05, 0.7],
        "latency_p99": [0.099, 1.0],
    }


def test_a_time_without_appends_has_no_latency() -> None:
    history = History((0.1, 1.0))
    history.take(0.0, sums(0))
    history.take(2.0, sums(0))
    assert history.describe()["latency_p99"] == [None]


def test_the_history_is_bounded_and_a_point_is_due_at_its_step() -> None:
    history = History((0.1, 1.0))
    now = taken = 0
    for now in range(3 * POINTS * int(STEP)):
        if history.due(now):
            history.take(now, sums(now))
            taken += 1
    assert taken == pytest.approx(3 * POINTS, abs=1)
    assert {len(value) for value in history.describe().values() if isinstance(value, list)} == {
        POINTS
    }


def test_an_answer_is_made_at_most_once_a_second_however_many_ask() -> None:
    clock, asked = ManualClock(), 0

    def status() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return {"asked": asked}

    overview = Overview(
        clock=clock, metrics=Metrics(), events=RecentEvents(clock.time), status=status
    )
    assert [overview.describe()["status"]["asked"] for _ in range(100)] == [1] * 100
    clock.now += 1.0
    assert overview.describe()["status"]["asked"] == 2


def test_of_many_peers_those_with_the_most_connections_are_shown() -> None:
    peers = [Peer("/s", "append", 0, uid) for uid in range(200)] + [
        Peer("/s", "append", 0, 150)
    ] * 3
    shown = limited_peers(peers)
    assert (shown["connections"], shown["peers"], len(shown["rows"])) == (203, 200, MOST_PEERS)
    assert shown["rows"][0] == {
        "socket": "/s",
        "protocol": "append",
        "pid": 0,
        "uid": 150,
        "command": "",
        "connections": 4,
    }


def test_a_process_that_is_gone_or_unknown_has_no_name() -> None:
    assert command_of(os.getpid()) == Path("/proc/self/comm").read_text().strip()
    assert command_of(0) == ""
    assert command_of(1 << 30) == ""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    agent = AgentProcess(tmp_path / "agent").start()
    yield agent
    agent.close()


def test_a_running_agent_tells_of_its_clients_its_flushes_and_what_was_refused(
    agent: AgentProcess,
) -> None:
    with (
        Client(agent.append_socket, producer=fresh_producer()) as client,
        socket.socket(socket.AF_UNIX) as lines,
        socket.socket(socket.AF_UNIX) as stranger,
    ):
        lines.connect(str(agent.lines_socket))
        client.append("app/web", b"x" * 1000, "store")
        client.wait_acknowledged()
        stranger.connect(str(agent.append_socket))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert stranger.recv(1 << 16)
        status, body = agent.get("/api/overview")
        assert status == 200
        overview = json.loads(body)
    (flush,) = overview["flushes"]["last"]
    assert (flush["stream"], flush["bytes"], flush["container"]) == (
        "app/web",
        1000,
        "node-1/app/web",
    )
    assert overview["flushes"]["results"]["ok"] == 1
    (event,) = overview["events"]
    assert (event["level"], event["message"]) == ("warning", "connection ends")
    assert event["fields"]["protocol"] == "append"
    here = {"pid": os.getpid(), "uid": os.getuid()}
    for path, protocol in ((agent.append_socket, "append"), (agent.lines_socket, "lines")):
        (row,) = [row for row in overview["peers"]["rows"] if row["socket"] == str(path)]
        assert row["protocol"] == protocol
        assert {key: row[key] for key in here} == here
    (append,) = [row for row in overview["protocols"] if row["protocol"] == "append"]
    assert (append["received_records"], append["received_bytes"]) == (1, 1000)
    assert append["rejected_records"] == 1
    assert overview["status"]["ready"] is True


SECRET = "s3cr3t-w0rd"


def test_no_secret_of_the_configuration_is_shown_also_not_in_errors(tmp_path: Path) -> None:
    """Nobody listens where the proxy should be: its URL, with a password, is what fails."""
    agent = AgentProcess(
        tmp_path / "agent",
        store_url="s3://bucket/logs",
        s3={
            "endpoint_url": "http://127.0.0.1:9",
            "addressing": "path",
            "proxy": f"http://user:{SECRET}-proxy@127.0.0.1:1",
        },
        forward=f'shared_key = "{SECRET}-shared"',
        env={
            "AWS_ACCESS_KEY_ID": f"{SECRET}-id",
            "AWS_SECRET_ACCESS_KEY": f"{SECRET}-key",
            "AWS_SESSION_TOKEN": f"{SECRET}-token",
        },
    ).start()
    try:
        deadline = time.monotonic() + 60
        while not json.loads(agent.get("/api/overview")[1])["events"]:
            assert time.monotonic() < deadline, agent.log_text()
            time.sleep(0.1)
        for path in ("/", "/metrics", "/readyz", "/api/status", "/api/streams", "/api/overview"):
            assert SECRET not in agent.get(path)[1], path
        assert "no way through the proxy" in agent.get("/api/overview")[1]
        assert SECRET not in agent.log_text()
    finally:
        agent.close()
