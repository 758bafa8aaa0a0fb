"""The agent as process 1, as it is in a container without an init around it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hf_agent.client import Client
from support.agent_process import AgentProcess
from support.containers import read_container

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


AS_FIRST = (*NAMESPACE, sys.executable, "-m", "hf_agent")


@pytest.fixture
def namespace() -> None:
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"]).returncode:
        pytest.skip("no PID namespace can be made here (root, and unshare from util-linux)")


class Pipe:
    """A named pipe that whoever opens it for reading waits at, without an end."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._kept: list[int] = []

    def wait_for_reader(self) -> None:
        """Return when somebody has it open."""
        self._kept.append(os.open(self.path, os.O_WRONLY))

    def close(self) -> None:
        for each in self._kept:
            os.close(each)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    made = Pipe(tmp_path / "pipe")
    yield made
    made.close()


@pytest.fixture
def agent(tmp_path: Path, namespace: None) -> AgentProcess:
    # Nothing is flushed but by the stop.
    return AgentProcess(tmp_path / "a", flush='interval = "1h"', launcher=NAMESPACE)


async def test_sigterm_drains_process_one_and_ends_it_with_status_0(agent: AgentProcess) -> None:
    agent.start()
    try:
        (process,) = psutil.Process(agent.pid).children()
        status = Path(f"/proc/{process.pid}/status").read_text()
        (numbers,) = [line for line in status.splitlines() if line.startswith("NSpid:")]
        assert numbers.split()[-1] == "1"
        with Client(str(agent.append_socket)) as client:
            client.append("demo", b"a record\n")
            client.wait_acknowledged()
        # The kernel gives process 1 only the signals that it has handlers for.
        os.kill(process.pid, signal.SIGTERM)
        assert agent.wait() == 0, agent.log_text()
    finally:
        agent.close()
    assert await read_container(agent, "node-1/demo") == b"a record\n"


def end_in_time(launcher: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send the signal to process 1 below `launcher`; the exit status of both."""
    try:
        (process,) = psutil.Process(launcher.pid).children()
        os.kill(process.pid, number)
        return launcher.wait(60)
    finally:
        launcher.kill()
        launcher.wait()


@pytest.mark.parametrize("command", [("--config",), ("check-config", "--config")])
def test_sigterm_ends_process_one_while_it_reads_its_configuration(
    namespace: None, pipe: Pipe, command: tuple[str, ...]
) -> None:
    launcher = subprocess.Popen([*AS_FIRST, *command, str(pipe.path)])
    pipe.wait_for_reader()
    assert end_in_time(launcher, signal.SIGTERM) == 128 + signal.SIGTERM


def test_sigterm_ends_process_one_while_it_loads_its_first_library(
    namespace: None, pipe: Pipe, tmp_path: Path
) -> None:
    # Found before the real one: it never comes to an end.
    (tmp_path / "click.py").write_text(f"open({str(pipe.path)!r}).read()\n")
    launcher = subprocess.Popen(
        [*AS_FIRST, "--config", "agent.toml"], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    pipe.wait_for_reader()
    assert end_in_time(launcher, signal.SIGTERM) == 128 + signal.SIGTERM


def test_a_process_that_is_not_the_first_is_ended_by_the_kernel(pipe: Pipe) -> None:
    process = subprocess.Popen([sys.executable, "-m", "hf_agent", "--config", str(pipe.path)])
    pipe.wait_for_reader()
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM
