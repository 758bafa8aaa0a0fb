"""Why a client is not read from stands in the metrics, for each thing that it may wait for."""

from __future__ import annotations

import re
import socket
from itertools import product
from pathlib import Path

from hf_agent.ingest.connection import Wait
from hf_agent.metrics import PROTOCOLS, WAITS
from support.agent_process import AgentProcess
from support.runbook import until


def waiting(agent: AgentProcess) -> dict[tuple[str, str], float]:
    found = re.findall(
        r'^hf_agent_waiting_connections\{protocol="(\w+)",reason="(\w+)"\} (\S+)$',
        agent.get("/metrics")[1],
        re.M,
    )
    return {(protocol, reason): float(value) for protocol, reason, value in found}


def test_the_metrics_know_of_everything_that_a_connection_may_wait_for() -> None:
    assert {wait.value for wait in Wait} == set(WAITS)


def test_a_client_that_is_kept_still_by_a_rate_is_counted_until_it_is_gone(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path)
    agent.edit_config(
        'protocol = "lines"', 'protocol = "lines"\nconnection_bytes_per_second = "64KiB"'
    )
    agent.start()
    try:
        assert waiting(agent) == dict.fromkeys(product(PROTOCOLS, WAITS), 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent.lines_socket))
            client.settimeout(0)
            sent = client.send(b"x" * 99 + b"\n")
            while sent < 200 * 100:
                sent += client.send((b"x" * 99 + b"\n") * 100)
            for _ in range(20):
                try:
                    client.send((b"x" * 99 + b"\n") * 1000)
                except BlockingIOError:
                    break
            until(agent, "it is kept still", lambda: waiting(agent)["lines", "rate"] == 1)
        until(agent, "it is gone", lambda: not any(waiting(agent).values()))
    finally:
        agent.close()
