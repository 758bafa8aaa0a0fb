"""What the page of protocol `lines` shows is what the agent does."""

from __future__ import annotations

import ast
import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_agent.config import Lines, parse
from hf_agent.metrics import Metrics
from support.agent_process import AgentProcess
from support.assembled import NOW_TEXT, assembled
from support.containers import read_container
from support.readme import ROOT, block
from support.runbook import until

PAGE = "docs/lines-protocol.md"
SOCKET = "/run/hf-agent/lines.sock"
SHOWN_TIME = "2026-01-31T12:00:00.123456789Z"
needs_socat = pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed")
needs_nc = pytest.mark.skipif(
    not shutil.which("nc")
    or "OpenBSD" not in subprocess.run(["nc", "-h"], capture_output=True, text=True).stderr,
    reason="OpenBSD's nc is not installed",
)


def table(name: str) -> Lines:
    """The `[listen.lines]` of a configuration on the page."""
    text = block(PAGE, name, "toml") + '\n[store]\nurl = "file:///srv/logs"\n'
    (listen,) = parse(text, environment={}).listen
    assert listen.protocol == "lines" and listen.path == SOCKET
    return listen.lines


def run(command: str, agent: AgentProcess, folder: Path) -> str:
    """Run a line of the page as it stands, but for the socket's path; what it prints."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(SOCKET, str(agent.lines_socket))],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def agent_with_ok(folder: Path) -> AgentProcess:
    assert table("lines-config") == Lines(say_ok=True)
    return AgentProcess(folder, lines_stream="app", lines="say_ok = true")


def stored(agent: AgentProcess) -> bytes:
    assert agent.stop() == 0, agent.log_text()
    return asyncio.run(read_container(agent, "node-1/app"))


@needs_socat
def test_the_example_with_socat_prints_ok_and_the_lines_are_stored(tmp_path: Path) -> None:
    agent = agent_with_ok(tmp_path / "a").start()
    try:
        assert run(block(PAGE, "lines-socat", "sh"), agent, tmp_path) == "ok\n"
        assert stored(agent) == b"one\ntwo\n"
    finally:
        agent.close()


@needs_nc
def test_so_does_the_one_with_nc(tmp_path: Path) -> None:
    agent = agent_with_ok(tmp_path / "a").start()
    try:
        assert run(block(PAGE, "lines-nc", "sh"), agent, tmp_path) == "ok\n"
        assert stored(agent) == b"three\n"
    finally:
        agent.close()


@needs_socat
def test_the_script_that_sends_again_ends_when_a_killed_agent_is_back(tmp_path: Path) -> None:
    agent = agent_with_ok(tmp_path / "a").start()
    # A fifo: the first attempt has begun, and cannot end, when the agent is killed.
    report = b"a report\nof two lines\n"
    command = block(PAGE, "lines-retry", "sh")
    assert "report.log" in command and "socat -t60" in command
    first = subprocess.Popen(
        ["socat", "-t60", "-", f"UNIX-CONNECT:{agent.lines_socket}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert first.stdin is not None
        first.stdin.write(report)
        first.stdin.flush()
        # Killed before socat has connected, it would be a connection that fails: that is not 0.
        taken = 'hf_agent_received_records_total{protocol="lines"} 2.0'
        until(agent, "the lines were taken", lambda: taken in agent.get("/metrics")[1])
        agent.kill()
        said, _ = first.communicate(timeout=60)
        assert said == b"", "nothing was acknowledged"
        assert first.returncode == 0, "which is why the page says not to go by it"
        agent.start()
        (tmp_path / "report.log").write_bytes(report)
        assert run(command, agent, tmp_path) == ""
        assert stored(agent).endswith(report)
    finally:
        first.kill()
        agent.close()


def with_shown_peer(text: bytes) -> str:
    """What a test's peer and clock became, as the page has them."""
    shown = text.decode().replace(NOW_TEXT, SHOWN_TIME)
    return shown.replace('"pid":42,', '"pid":4711,')


def test_a_line_becomes_the_json_that_is_shown() -> None:
    made = assembled([b"GET /\n"], table("lines-json-config"))
    assert with_shown_peer(made.stored) == block(PAGE, "lines-json-line", "json")


def test_lines_are_joined_as_is_shown() -> None:
    text = block(PAGE, "lines-multiline-input", "text").encode()
    made = assembled([text], table("lines-multiline-config"))
    assert with_shown_peer(made.stored) == block(PAGE, "lines-multiline-output", "json")


def test_parts_of_containers_lines_are_joined_as_is_shown() -> None:
    text = block(PAGE, "lines-cri-input", "text").encode()
    config = table("lines-cri-config")
    assert assembled([text], config).stored.decode() == block(PAGE, "lines-cri-raw", "text")
    made = assembled([text], Lines(cri=True, format="json"))
    assert with_shown_peer(made.stored) == block(PAGE, "lines-cri-json", "json")


def rows(mark: str) -> list[str]:
    return (ROOT / PAGE).read_text().split(mark)[1].split("\n\n")[0].splitlines()


def values() -> list[tuple[str, str]]:
    found = re.findall(r"`(b\"[^`]*\")` → `([^`]+)`", "\n".join(rows("<!-- lines-values -->\n")))
    assert len(found) == 4
    return found


@pytest.mark.parametrize(("line", "text"), values())
def test_what_lines_hold_becomes_what_the_table_says(line: str, text: str) -> None:
    made = assembled([ast.literal_eval(line) + b"\n"], Lines(format="json"))
    assert made.stored.decode().endswith(f'"message":{text}}}\n')
    json.loads(made.stored)


def test_every_reason_for_which_a_group_ends_is_explained() -> None:
    metrics = Metrics()
    known = {
        sample.labels["ended_by"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "hf_agent_joined_records_total"
    }
    text = (ROOT / PAGE).read_text().split("| `ended_by` | when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.M)) == known
