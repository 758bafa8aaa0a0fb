"""The agent as process 1, as it is in a container without an init around it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from hf_agent.client import Client
from support.agent_process import AgentProcess
from support.containers import read_container

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.fixture
def agent(tmp_path: Path) -> AgentProcess:
    if shutil.which("unshare") is None or subprocess.run([*NAMESPACE, "true"]).returncode:
        pytest.skip("no PID namespace can be made here (root, and unshare from util-linux)")
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
