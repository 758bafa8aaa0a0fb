"""The runbook as it is followed: a section, and the agent that has the fault.

What a test looks at goes through `Section.says`, which fails when the section does not send anybody
there. The commands are the section's own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from hf_agent.cli.main import main
from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.readme import ROOT

__all__ = [
    "FLUSH_FAILED",
    "QUICK",
    "SMALL_WAL",
    "Section",
    "Terminal",
    "append",
    "edit",
    "in_own_mounts",
    "log_lines",
    "running",
    "terminal",
    "until",
]

SMALL_WAL = (
    'file_bytes = "512KiB"\nmax_bytes = "4MiB"\nmax_batch_bytes = "64KiB"\n'
    'max_pending_bytes = "128KiB"'
)
QUICK = 'interval = "50ms"\nretry_min = "50ms"\nretry_max = "500ms"\nshutdown_timeout = "2s"'
FLUSH_FAILED = "flush failed, will be tried again"


class Section:
    """One section of the runbook, and the agent that its alert is about."""

    def __init__(self, alert: str, agent: AgentProcess) -> None:
        page = (ROOT / "docs" / "runbook.md").read_text()
        (self.text,) = re.findall(rf"^## {alert}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        self.agent = agent

    def says(self, words: str) -> str:
        """The words, which the section has in it."""
        assert words in self.text, f"the section does not name {words}"
        return words

    def metric(self, sample: str, *, labels: str = "") -> float:
        """The value of a metric that the section names."""
        self.says(sample.split("{")[0])
        found = re.search(
            rf"^{re.escape(sample + labels)} (\S+)$", self.agent.get("/metrics")[1], re.M
        )
        assert found, f"{sample}{labels} is not exported"
        return float(found[1])

    def readyz(self) -> str:
        """The reasons of the address that the section names, which is not ready."""
        self.says("/readyz")
        status, reasons = self.agent.get("/readyz")
        assert status == 503
        return reasons

    def stream(self, name: str, *fields: str) -> dict[str, Any]:
        """A stream's row in the table that the section names, with fields that it names."""
        self.says("/api/streams")
        for field in fields:
            self.says(f"`{field}`")
        rows = json.loads(self.agent.get("/api/streams?limit=1000")[1])["streams"]
        (row,) = [each for each in rows if each["stream"] == name]
        return {field: row[field] for field in fields}

    def store(self, *fields: str) -> dict[str, Any]:
        """`store` of /api/status."""
        self.says("`/api/status`, `store`")
        status = json.loads(self.agent.get("/api/status")[1])["store"]
        return {field: status[field] for field in fields if self.says(f"`{field}`")}

    def logged(self, message: str, **fields: str) -> dict[str, Any]:
        """The newest line of the log with that beginning and these fields; waits for it."""
        self.says(f"`{message}")
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [
                line
                for line in log_lines(self.agent)
                if line["message"].startswith(message) and fields.items() <= line.items()
            ]
            return bool(found)

        until(self.agent, f"{message} {fields}", seen)
        return found[-1]


class Terminal:
    """Runs the commands that sections name."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def run(self, section: Section, *words: str, status: int) -> str:
        """What `hf-agent` with these words prints; the section has the command, by its name."""
        section.says("`hf-agent " + words[0])
        self._captured.readouterr()
        ended = main(words)
        out, err = self._captured.readouterr()
        assert ended == status, out + err
        return out + err


@pytest.fixture
def terminal(capfd: pytest.CaptureFixture[str]) -> Terminal:
    """The command line, of which the test's output is captured."""
    return Terminal(capfd)


def log_lines(agent: AgentProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in agent.log_text().splitlines() if line.startswith("{")]


def until(agent: AgentProcess, what: str, condition: Callable[[], bool]) -> None:
    """Return when it holds: it is asked for, since nobody sends word."""
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within a minute: {what}\n{agent.log_text()}")


def append(agent: AgentProcess, stream: str, *records: bytes, flush: bool = False) -> None:
    with Client(agent.append_socket, producer=fresh_producer()) as client:
        for record in records:
            client.append(stream, record)
            client.wait_acknowledged()
        if flush:
            client.flush(stream, timeout=120)


def in_own_mounts(tmpfs: str) -> tuple[str, ...]:
    """What runs a program where this file system is mounted, seen by it alone."""
    private = ("unshare", "--mount", "--propagation", "private")
    if os.getuid() != 0 or subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    return (*private, "sh", "-euc", f'mount -t tmpfs {tmpfs} && exec "$@"', "sh")


def edit(agent: AgentProcess, old: str, new: str) -> None:
    """Change the configuration, once."""
    text = agent.config.read_text()
    assert old in text
    agent.config.write_text(text.replace(old, new, 1))


@contextmanager
def running(*agents: AgentProcess) -> Iterator[None]:
    with ExitStack() as stack:
        for agent in agents:
            stack.callback(agent.close)
            agent.start()
        yield
