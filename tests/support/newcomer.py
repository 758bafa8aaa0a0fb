"""Somebody who has cloned the repository and pastes what the pages say, line by line."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.readme import ROOT

__all__ = ["PORT", "Newcomer", "free_port"]

PORT = "127.0.0.1:9477"
"""The address of HTTP that the pages name."""


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Newcomer:
    """Works in `folder`, as in a clone of the repository, and has installed it into `.venv`.

    `replaced` says what stands for what in all that is pasted, beside the port.
    """

    def __init__(self, folder: Path, replaced: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        for name in ("config", "deploy"):
            (folder / name).symlink_to(ROOT / name)
        self.programs = folder / ".venv" / "bin"
        self.programs.mkdir(parents=True)
        python = shlex.quote(sys.executable)
        self.script(self.programs / "python", f'exec {python} "$@"')
        self.script(self.programs / "hf-agent", f'exec {python} -m hf_agent "$@"')
        # Another agent, or another run of the tests, may have the port that the pages name.
        self.http = free_port()
        self.replaced = {PORT: self.http, **(replaced or {})}
        self.environment = {
            **os.environ,
            "HF_AGENT_HTTP": self.http,
            "PYTHONPATH": str(ROOT / "agent"),
        }

    def script(self, path: Path, lines: str) -> None:
        """Make a program of shell commands."""
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)

    def paste(self, text: str) -> str:
        """Run lines as they stand, but for what is replaced; returns what they print."""
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, ""), (text, done.stderr)
        return done.stdout

    @contextmanager
    def running(self, command: str) -> Iterator[None]:
        """The command of an agent runs until Ctrl-C, and takes appends meanwhile."""
        notify = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(notify))
            ready.settimeout(0.2)
            agent = subprocess.Popen(
                shlex.split(command),
                cwd=self.folder,
                env={**self.environment, "NOTIFY_SOCKET": str(notify)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            try:
                _wait_until_ready(ready, agent)
                notify.unlink()
                yield
                agent.send_signal(signal.SIGINT)
                out, err = agent.communicate(timeout=60)
                assert (agent.returncode, out) == (0, ""), err
            finally:
                agent.kill()
                agent.communicate()


def _wait_until_ready(ready: socket.socket, agent: subprocess.Popen[str]) -> None:
    """Return when the agent says so; fail with its own words when it ends instead."""
    for _ in range(300):
        try:
            assert ready.recv(4096).startswith(b"READY=1")
        except TimeoutError:
            assert agent.poll() is None, agent.communicate()[1]
        else:
            return
    raise AssertionError("the agent does not become ready")
