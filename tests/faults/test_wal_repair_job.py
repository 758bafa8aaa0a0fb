"""An agent whose log was damaged between two runs: refused, repaired, and nothing stored twice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hf_agent.client import Client
from support.agent_process import AgentProcess

LONG = 'interval = "1h"'
LATE = 'interval = "50ms"'


def line(stream: str, number: int) -> bytes:
    return f"{stream} says {number}, which is not said elsewhere\n".encode()


def append(agent: AgentProcess, numbers: range, *, flush: bool = False) -> None:
    """One batch for each append, so that only the last could be an unfinished write."""
    with Client(agent.append_socket) as client:
        for number in numbers:
            for stream in ("app", "other"):
                client.append(stream, line(stream, number))
                client.wait_acknowledged()
        if flush:
            client.flush()


def damage(agent: AgentProcess, text: bytes) -> None:
    """Flip a bit of `text` in the log."""
    for path in agent.wal_files():
        data = path.read_bytes()
        if text in data:
            with path.open("r+b") as file:
                file.seek(data.index(text))
                file.write(bytes([text[0] ^ 1]))
            return
    raise AssertionError("not in the log")


def repair(agent: AgentProcess) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hf_agent", "wal", "repair", str(agent.wal_dir)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def content(agent: AgentProcess, stream: str) -> bytes:
    done = subprocess.run(
        [sys.executable, "-m", "hf_agent", "cat", f"{agent.store_url}/node-1/{stream}"],
        capture_output=True,
        check=True,
    )
    return done.stdout


def said(stream: str, numbers: range, *, lost: int | None = None) -> bytes:
    lines = [line(stream, number) for number in numbers]
    return b"".join(
        bytes(len(each)) if number == lost else each
        for number, each in zip(numbers, lines, strict=True)
    )


def damaged_agent(folder: Path, lost: int) -> AgentProcess:
    """Killed with numbers 0 to 9 in the log, of which the store has 0 to 4."""
    agent = AgentProcess(folder, flush=LONG).start()
    append(agent, range(5), flush=True)
    append(agent, range(5, 10))
    agent.kill()
    damage(agent, line("app", lost))
    agent.start(wait=False)
    assert agent.wait() != 0
    assert "the write-ahead log is damaged" in agent.log_text()
    return agent


def test_lost_bytes_that_the_store_has_are_no_loss_and_nothing_is_stored_twice(
    tmp_path: Path,
) -> None:
    agent = damaged_agent(tmp_path / "a", lost=2)
    try:
        assert "stream app: bytes " in repair(agent)
        agent.start()
        append(agent, range(10, 12))
        assert agent.stop() == 0
    finally:
        agent.close()
    for stream in ("app", "other"):
        assert content(agent, stream) == said(stream, range(12))


def test_lost_bytes_that_nobody_has_become_zeros_and_all_others_are_stored_once(
    tmp_path: Path,
) -> None:
    agent = damaged_agent(tmp_path / "a", lost=7)
    try:
        repair(agent)
        agent.start()
        append(agent, range(10, 12))
        assert agent.stop() == 0
    finally:
        agent.close()
    assert content(agent, "app") == said("app", range(12), lost=7)
    assert content(agent, "other") == said("other", range(12))
