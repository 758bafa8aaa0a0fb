"""What README tells a newcomer to paste does what README says."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.cli.command import LazyGroup
from hf_agent.cli.main import cli
from support.readme import ROOT, marked

PORT = "127.0.0.1:9477"


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Newcomer:
    """Somebody in a clone of the repository, who has installed it into `.venv`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config").symlink_to(ROOT / "config")
        programs = folder / ".venv" / "bin"
        programs.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        self._script(programs / "python", f'exec {python} "$@"')
        self._script(programs / "hf-agent", f'exec {python} -m hf_agent "$@"')
        # Another agent, or another run of the tests, may have the port that README names.
        self.http = free_port()
        self.environment = {
            **os.environ,
            "HF_AGENT_HTTP": self.http,
            "PYTHONPATH": str(ROOT / "agent"),
        }

    def _script(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def agent_command(self) -> str:
        """The last part of README's command: what runs the agent, once it is installed."""
        (line,) = marked("run-command")
        return line.split(" && ")[-1]

    def paste(self, line: str) -> str:
        """Run a line as it stands, but for the port; returns what it prints."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line.replace(PORT, self.http)],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), (line, done.stderr)
        return done.stdout


def wait_until_ready(ready: socket.socket, agent: subprocess.Popen[str]) -> None:
    """Return when the agent says so; fail with its own words when it ends instead."""
    for _ in range(300):
        try:
            assert ready.recv(4096).startswith(b"READY=1")
        except TimeoutError:
            assert agent.poll() is None, agent.communicate()[1]
        else:
            return
    raise AssertionError("the agent does not become ready")


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    newcomer = Newcomer(tmp_path)
    notify = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(notify))
        ready.settimeout(0.2)
        agent = subprocess.Popen(
            shlex.split(newcomer.agent_command()),
            cwd=tmp_path,
            env={**newcomer.environment, "NOTIFY_SOCKET": str(notify)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait_until_ready(ready, agent)
            notify.unlink()
            yield newcomer
            agent.send_signal(signal.SIGINT)
            out, err = agent.communicate(timeout=60)
            assert (agent.returncode, out) == (0, ""), err
        finally:
            agent.kill()
            agent.communicate()


def test_the_walk_through_shows_what_it_says(newcomer: Newcomer) -> None:
    append, status, flush, cat, metrics = marked("walk-through")
    size = len("".join(f"{i}\n" for i in range(1, 1001)))
    assert newcomer.paste(append) == (
        f"acknowledged {size} bytes in 1000 appends; demo is at {size}\n"
    )
    assert "running" in newcomer.paste(status)
    assert newcomer.paste(flush) == ""
    assert newcomer.paste(cat) == "998\n999\n1000\n"
    shown = newcomer.paste(metrics)
    assert 'hf_agent_acked_records_total{protocol="append"} 1000.0\n' in shown
    assert f"hf_agent_flush_bytes_total {size}.0\n" in shown
    # The agent wrote below one folder, and nowhere else.
    entries = {path.name for path in newcomer.folder.iterdir()}
    assert entries == {".venv", "config", "hf-agent-data"}


def test_both_commands_are_one_line_each_and_start_from_nothing_but_python() -> None:
    (run,) = marked("run-command")
    (test,) = marked("test-command")
    for line in (run, test):
        assert line.startswith("python3 -m venv ")
    assert run.endswith("/bin/hf-agent --config config/agent.toml")
    assert "--require-hashes --requirement requirements/dev.txt" in test
    assert "pytest" in test


def test_every_command_that_readme_names_is_there() -> None:
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|`|bin/)hf-agent ([a-z][a-z-]*)", text, re.M))
    assert {"append", "ls", "log", "cat", "tail", "check-config"} <= named
    assert isinstance(cli, LazyGroup)
    assert named <= set(cli.lazy)
