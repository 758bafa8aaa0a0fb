"""A real Prometheus scrapes a real agent whose store goes away: the right alerts, and no others.

The dashboard's expressions are asked of it as well.

Takes about four minutes: set HF_AGENT_LIVE_ALERTS=1 to run it. The rules are the ones in deploy/,
sixty times as fast: a minute of theirs is a second here.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.moto_s3 import MotoS3, moto_s3
from support.prometheus import Prometheus, program, quickened
from support.readme import ROOT
from support.relay import Relay

__all__ = ["moto_s3"]

FACTOR = 60
SECONDS = {
    "> 900 +": "> 15 +",
    "4 * 3600": "240",
    # Starts of a process take as long as they take: three must have time enough on a busy machine.
    "process_start_time_seconds[30s]": "process_start_time_seconds[150s]",
}
BY_ITSELF = {"HfAgentWalFilling", "HfAgentWalDiskFilling"}
"""What others on this machine do to its disk, and how steady the load is, decides about these."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def dashboard(job: str, instance: str) -> Iterator[tuple[str, str]]:
    """The title of each panel and what it asks for, with the choices of whoever looks put in."""
    path = ROOT / "deploy" / "grafana" / "dashboard.json"
    for panel in json.loads(path.read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"].replace("$__rate_interval", "30s")
            yield panel["title"], expression.replace("$job", job).replace("$instance", instance)


@contextmanager
def load(agent: AgentProcess, rate: float) -> Iterator[None]:
    """Appends 8 KiB `rate` times a second, as fast as it may when the agent lets it wait."""
    stop = threading.Event()

    def send() -> None:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            while not stop.wait(1 / rate):
                client.append("app/web", bytes(8192))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        stop.set()
        sender.join(120)


@pytest.mark.skipif(
    not os.environ.get("HF_AGENT_LIVE_ALERTS"),
    reason="four minutes of a running Prometheus: set HF_AGENT_LIVE_ALERTS=1",
)
@pytest.mark.timeout(1500)
def test_the_right_alerts_fire_while_the_store_is_away_and_clear_when_it_is_back(
    tmp_path: Path, moto_s3: MotoS3
) -> None:
    program("prometheus")
    relay = Relay(moto_s3.endpoint_url)
    port = free_port()
    agent = AgentProcess(
        tmp_path / "agent",
        store_url=f"s3://{moto_s3.make_bucket()}/logs",
        s3={"endpoint_url": relay.url, "addressing": "path"},
        env=moto_s3.env,
        max_record_bytes="64KiB",
        wal='file_bytes = "512KiB"\nmax_bytes = "8MiB"\n'
        'max_batch_bytes = "64KiB"\nmax_pending_bytes = "128KiB"',
        flush='interval = "100ms"\nretry_min = "50ms"\nretry_max = "1s"',
    )
    agent.config.write_text(
        agent.config.read_text().replace(str(agent.http_socket), f"127.0.0.1:{port}")
    )
    rules = quickened(ROOT / "deploy" / "prometheus" / "alerts.yaml", FACTOR, replaced=SECONDS)
    agent.start()
    prometheus = Prometheus(
        tmp_path / "prometheus", rules=rules, target=f"127.0.0.1:{port}", port=free_port()
    )

    def firing() -> set[str]:
        return prometheus.firing() - BY_ITSELF

    def until_firing(*names: str) -> None:
        prometheus.until(f"{names} fire", lambda: set(names) <= firing())

    def until_clear() -> None:
        prometheus.until("all clear", lambda: not firing())

    def loaded() -> bool:
        groups = (prometheus.ask("rules") or {"groups": []})["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    def seen(metric: str, at_least: float) -> bool:
        found = prometheus.ask(f"query?query={metric}")
        return bool(found and found["result"]) and float(found["result"][0]["value"][1]) >= at_least

    try:
        prometheus.until("every rule is evaluated without error", loaded)
        with load(agent, 50):
            prometheus.until("flushes", lambda: seen("hf_agent_flush_bytes_total", 4_000_000))
        until_clear()

        print("the store is away, and the load goes on until the WAL is full")
        relay.set("away")
        with load(agent, 50):
            until_firing("HfAgentFlushFailing", "HfAgentUnflushedTooOld")
            until_firing("HfAgentWalAbove80Percent", "HfAgentIngestionPaused")
            assert firing() == {
                "HfAgentFlushFailing",
                "HfAgentUnflushedTooOld",
                "HfAgentWalAbove80Percent",
                "HfAgentIngestionPaused",
            }
            # Where the runbook sends to, the cause is told.
            assert "the data stays in the WAL" in agent.log_text()
            assert "WAL full: clients wait" in agent.log_text()
            relay.set("pass")
            until_clear()

        print("the store refuses")
        relay.set("403")
        with load(agent, 5):
            until_firing("HfAgentStoreRefuses")
            assert "HfAgentDown" not in firing()
            refusals = [
                json.loads(line)["reason"]
                for line in agent.log_text().splitlines()
                if '"result": "refused"' in line
            ]
            assert any("AccessDenied" in reason for reason in refusals)
            relay.set("pass")
            until_clear()

        print("a stranger speaks another protocol")
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(str(agent.append_socket))
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            until_firing("HfAgentRecordsRefused")
        assert firing() == {"HfAgentRecordsRefused"}
        # Whoever looks at the dashboard now sees something in every panel.
        empty = {
            title: expression
            for title, expression in dashboard("hf-agent", f"127.0.0.1:{port}")
            if not (prometheus.ask(f"query?query={quote(expression)}") or {}).get("result")
        }
        assert empty == {}
        assert '"code": "frame_too_large"' in agent.log_text()
        until_clear()

        print("the agent is killed, and comes back")
        agent.kill()
        until_firing("HfAgentDown")
        agent.start()
        prometheus.until("the agent answers again", lambda: "HfAgentDown" not in firing())

        print("the agent is killed again and again")
        for _ in range(3):
            prometheus.until("scraped", lambda: seen("up", 1))
            agent.kill()
            agent.start()
        until_firing("HfAgentRestartLoop")
        until_clear()
    finally:
        relay.set("pass")
        prometheus.close()
        agent.close()
        relay.close()
