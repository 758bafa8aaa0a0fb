"""The end of a run: all that the clients have under way comes to its end, and the agent stops."""

from __future__ import annotations

import signal

from hf_agent.wal.inspect import inspect_wal
from support.agent_process import AgentProcess
from torture.load import Load

__all__ = ["drain"]

_WITHIN = 600.0


def drain(agent: AgentProcess, load: Load) -> None:
    """Stop a running agent after its clients: all is acknowledged, stored, and gone from the WAL.

    Raises `AssertionError` where it is not.
    """
    load.end()
    load.join(_WITHIN)
    agent.send(signal.SIGTERM)
    status = agent.wait(_WITHIN)
    log = agent.log_text()
    assert status == 0, f"status={status}\n{log[-5000:]}"
    assert "everything is flushed" in log, log[-5000:]
    assert "Traceback" not in log, log
    files = agent.wal_files()
    assert len(files) == 1, f"the WAL is not empty after a clean drain: {files}"
    damage = [found for found in inspect_wal(agent.wal_dir) if found.kind == "damage"]
    assert not damage, damage
