"""What the page of protocol `append` shows is what the agent does."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from hf_agent.ingest.append_errors import FATAL, RETRY, ErrorCode
from support.agent_process import AgentProcess
from support.containers import read_container
from support.readme import ROOT, block

PAGE = "docs/append-protocol.md"


def test_the_examples_do_what_they_show(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a").start()

    def run(name: str) -> str:
        script = block(PAGE, name, "python").replace(
            "/run/hf-agent/append.sock", str(agent.append_socket)
        )
        done = subprocess.run(
            [sys.executable, "-c", script], check=True, timeout=60, capture_output=True, text=True
        )
        return done.stdout

    def stored(stream: str) -> bytes:
        return asyncio.run(read_container(agent, f"node-1/{stream}"))

    try:
        assert run("append-python") == ""
        assert run("append-logging") == ""
        assert run("append-wire") == block(PAGE, "append-wire-output", "text")
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    assert stored("orders") == b"order 1\norder 2\norder 3\n"
    assert stored("audit") == b"order 2 taken\n"
    assert stored("app") == b"INFO started\n"
    assert (stored("left"), stored("right")) == (b"abx", b"\n")


def test_the_table_of_errors_says_which_end_the_connection() -> None:
    rows = {}
    for line in (ROOT / PAGE).read_text().split("## Errors")[1].split("\n\n")[1].splitlines()[2:]:
        code, ends, _ = (cell.strip() for cell in line.strip("|").split("|", 2))
        rows[code.strip("`")] = ends
    assert set(rows) <= set(ErrorCode)
    for code, ends in rows.items():
        if code == "too_many_streams":
            continue  # depends on the producer
        assert ends.startswith("yes") == (code in FATAL), code
        assert ("come again" in ends) == (code in RETRY), code
    missing = set(ErrorCode) - set(rows) - {"unauthorized", "unsupported"}
    assert not missing, "unauthorized and unsupported belong to protocol forward"
