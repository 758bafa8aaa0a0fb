"""The real process: signals, sockets, exit statuses, and the one line that says what to do."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.containers import read_container
from support.web_stub import ask


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a", flush='interval = "1h"')
    yield process
    process.close()


def send_lines(agent: AgentProcess, data: bytes) -> bytes:
    """Send and wait for the end of file; what the agent said before it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(str(agent.lines_socket))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(4096), b""))


def container(agent: AgentProcess, stream: str = "lines") -> bytes:
    return asyncio.run(read_container(agent, f"node-1/{stream}"))


def wait_for_log(agent: AgentProcess, event: str, process: subprocess.Popen[bytes]) -> str:
    """The log line of an event, once it is there."""
    with agent.log.open() as log:
        text = ""
        for _ in range(3000):
            text += log.read()
            if match := re.search(rf"^.*{re.escape(event)}.*$", text, re.MULTILINE):
                return match.group()
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
    raise AssertionError(f"no {event!r} in the log:\n{text}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_flushes_at_once_and_removes_the_sockets(
    agent: AgentProcess, number: signal.Signals
) -> None:
    agent.start()
    assert send_lines(agent, b"one\ntwo\nthree") == b""
    agent.send(number)
    assert agent.wait(20) == 0, agent.log_text()
    assert container(agent) == b"one\ntwo\nthree"
    assert not agent.lines_socket.exists()
    assert not agent.append_socket.exists()
    assert not agent.http_socket.exists()


def test_what_a_killed_agent_acknowledged_is_flushed_by_the_next_one(agent: AgentProcess) -> None:
    agent.start()
    assert send_lines(agent, b"kept\n") == b""
    agent.kill()
    assert agent.lines_socket.exists(), "a killed agent leaves its socket files behind"
    agent.start()
    assert send_lines(agent, b"and more\n") == b""
    assert agent.stop() == 0
    assert container(agent) == b"kept\nand more\n"


def test_sigusr1_flushes_now(agent: AgentProcess) -> None:
    agent.start()
    send_lines(agent, b"now\n")
    agent.send(signal.SIGUSR1)
    pause = threading.Event()
    for _ in range(3000):
        streams = json.loads(agent.get("/api/streams")[1])["streams"]
        if streams and streams[0]["unflushed_bytes"] == 0:
            break
        pause.wait(0.01)
    assert container(agent) == b"now\n"


def test_a_second_signal_ends_a_stop_that_waits_for_the_store(tmp_path: Path) -> None:
    agent = AgentProcess(
        tmp_path / "a",
        store_url="s3://nowhere/logs",
        s3={"endpoint_url": "http://127.0.0.1:9", "region": "us-east-1"},
        env={"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
        flush='interval = "1h"\nshutdown_timeout = "10m"',
    ).start()
    assert agent.process is not None
    try:
        assert send_lines(agent, b"kept\n") == b""
        agent.send(signal.SIGTERM)
        wait_for_log(agent, '"stopping"', agent.process)
        agent.send(signal.SIGTERM)
        assert agent.wait(20) == 128 + signal.SIGTERM
        assert "stays in the WAL" in agent.log_text()
    finally:
        agent.close()


def test_a_stop_with_the_store_away_ends_in_time_and_keeps_the_data(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    away = AgentProcess(
        folder,
        store_url="s3://nowhere/logs",
        s3={"endpoint_url": "http://127.0.0.1:9", "region": "us-east-1"},
        env={"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"},
        flush='interval = "1h"\nshutdown_timeout = "300ms"',
    ).start()
    try:
        assert away.get("/readyz")[0] == 200, "a store that is away is no reason to be unready"
        assert send_lines(away, b"kept\n") == b""
        assert away.stop() == 0
        assert "the rest stays in the WAL" in away.log_text()
    finally:
        away.close()
    back = AgentProcess(folder).start()
    try:
        assert back.stop() == 0
        assert container(back) == b"kept\n"
    finally:
        back.close()


def test_a_reload_takes_over_what_it_can_and_names_the_rest(agent: AgentProcess) -> None:
    agent.start()
    assert agent.process is not None
    text = agent.config.read_text()
    agent.config.write_text(
        text.replace('interval = "1h"', 'interval = "50ms"').replace('"node-1"', '"node-2"')
    )
    agent.send(signal.SIGHUP)
    line = json.loads(wait_for_log(agent, "configuration reloaded", agent.process))
    assert line["applied"] == ["flush.interval"]
    assert line["needs_restart"] == ["agent.node"]
    agent.config.write_text(text.replace('interval = "1h"', 'intervall = "1h"'))
    agent.send(signal.SIGHUP)
    line = json.loads(wait_for_log(agent, "configuration not reloaded", agent.process))
    assert "interval" in line["reason"]
    assert send_lines(agent, b"still here\n") == b""
    assert agent.stop() == 0


def run_to_its_end(agent: AgentProcess) -> tuple[int, list[str]]:
    """Start an agent that cannot run: its status, and what it wrote that is no JSON log line."""
    process = subprocess.run(
        [sys.executable, "-m", "hf_agent", "--config", str(agent.config)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        text=True,
        check=False,
    )
    assert process.stdout == ""
    assert "Traceback" not in process.stderr
    return process.returncode, [
        line for line in process.stderr.splitlines() if line and not line.startswith("{")
    ]


def test_a_second_agent_on_the_same_wal_ends_with_75_and_harms_nothing(
    agent: AgentProcess, tmp_path: Path
) -> None:
    agent.start()
    second = AgentProcess(tmp_path / "b")
    second.config.write_text(
        second.config.read_text().replace(
            f'data_dir = "{tmp_path}/b"', f'data_dir = "{agent.folder}"'
        )
    )
    status, lines = run_to_its_end(second)
    assert status == 75
    assert len(lines) == 1
    assert str(agent.pid) in lines[0]
    assert send_lines(agent, b"undisturbed\n") == b""


def test_a_live_agents_socket_is_not_taken_from_it(agent: AgentProcess, tmp_path: Path) -> None:
    agent.start()
    second = AgentProcess(tmp_path / "b")
    second.config.write_text(
        second.config.read_text().replace(str(second.lines_socket), str(agent.lines_socket))
    )
    status, lines = run_to_its_end(second)
    assert status == 78
    assert len(lines) == 1
    assert str(agent.lines_socket) in lines[0]
    assert send_lines(agent, b"undisturbed\n") == b""


def test_a_bad_configuration_ends_with_78_and_names_the_key(agent: AgentProcess) -> None:
    agent.config.write_text(agent.config.read_text().replace("interval", "intervall"))
    status, lines = run_to_its_end(agent)
    assert status == 78
    assert "flush.intervall" in lines[0]
    assert "flush.interval" in lines[0].replace("flush.intervall", "")


def missing_parent(agent: AgentProcess) -> str:
    return f"{agent.folder}/no/such/folder"


def a_file(agent: AgentProcess) -> str:
    path = agent.folder / "file"
    path.write_text("")
    return str(path)


@pytest.mark.parametrize("directory", [missing_parent, a_file])
def test_a_wal_directory_that_cannot_be_used_ends_with_78_and_says_which(
    agent: AgentProcess, directory: object
) -> None:
    path = directory(agent)  # type: ignore[operator]
    agent.config.write_text(agent.config.read_text().replace("[wal]", f'[wal]\ndir = "{path}"'))
    status, lines = run_to_its_end(agent)
    assert status == 78
    assert len(lines) == 1
    assert path in lines[0]


def test_a_damaged_wal_ends_with_74_and_names_file_and_offset(agent: AgentProcess) -> None:
    agent.start()
    for number in range(3):
        send_lines(agent, b"batch %d\n" % number)
    agent.kill()
    (wal,) = agent.wal_files()
    data = bytearray(wal.read_bytes())
    place = data.index(b"batch 0")
    data[place] ^= 1
    wal.write_bytes(data)
    status, lines = run_to_its_end(agent)
    assert status == 74
    assert len(lines) == 1
    assert wal.name in lines[0]
    assert "offset=" in lines[0]


def test_a_socket_path_that_is_too_long_ends_with_78(agent: AgentProcess) -> None:
    path = agent.folder / ("x" * 120)
    agent.config.write_text(agent.config.read_text().replace(str(agent.lines_socket), str(path)))
    status, lines = run_to_its_end(agent)
    assert status == 78
    assert "107" in lines[0]


def test_a_missing_socket_directory_ends_with_78(agent: AgentProcess) -> None:
    path = agent.folder / "none" / "lines.sock"
    agent.config.write_text(agent.config.read_text().replace(str(agent.lines_socket), str(path)))
    status, lines = run_to_its_end(agent)
    assert status == 78
    assert len(lines) == 1
    assert str(path) in lines[0]


def test_the_process_says_over_http_how_it_is(agent: AgentProcess) -> None:
    agent.start()
    send_lines(agent, b"a\nb\n")
    assert agent.get("/healthz")[0] == 200
    assert agent.get("/readyz")[0] == 200
    metrics = agent.get("/metrics")[1]
    assert 'hf_agent_acked_records_total{protocol="lines"} 2.0' in metrics
    assert "hf_agent_wal_unflushed_bytes 4.0" in metrics
    status = json.loads(agent.get("/api/status")[1])
    assert status["phase"] == "running"
    assert status["unflushed_bytes"] == 4
    assert os.path.samefile(status["listen"][0]["path"], agent.append_socket)


async def test_it_answers_by_its_hosts_name_and_those_of_the_configuration(
    agent: AgentProcess,
) -> None:
    agent.edit_config(f'listen = "{agent.http}"', 'listen = ":0"\nallowed_hosts = ["logs.example"]')
    agent.start()
    lines = map(json.loads, agent.log_text().splitlines())
    (port,) = [line["port"] for line in lines if line.get("message") == "serving HTTP"]
    for host in (socket.gethostname(), "logs.example", f"127.0.0.1:{port}"):
        assert (await ask(port, "/api/status", host=host))[0] == 200
    assert (await ask(port, "/api/status", host="evil.example"))[0] == 403
    assert (await ask(port, "/metrics", host="evil.example"))[0] == 200
