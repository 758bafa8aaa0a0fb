"""What the page of protocol `syslog` shows is what the agent does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hf_agent.config import parse
from hf_agent.ingest.syslog.json_line import json_line
from hf_agent.ingest.syslog.message import parse_message
from support.agent_process import AgentProcess
from support.containers import stored_lines
from support.readme import block

PAGE = "docs/syslog-protocol.md"


def test_the_configuration_is_right() -> None:
    config = parse(block(PAGE, "syslog-config", "toml") + '\n[store]\nurl = "file:///srv/logs"\n')
    assert [listen.syslog.socket for listen in config.listen] == ["datagram", "stream"]


def test_messages_become_the_lines_that_are_shown() -> None:
    now = "2026-01-02T03:04:05.000006Z"
    messages = block(PAGE, "syslog-messages", "").encode().splitlines()
    lines = b"".join(json_line(message, parse_message(message), now) for message in messages)
    assert lines.decode().splitlines() == block(PAGE, "syslog-lines", "json").splitlines()


@pytest.mark.skipif(shutil.which("logger") is None, reason="logger is not installed")
def test_the_command_to_try_it_is_stored_in_the_stream_of_the_configuration(
    tmp_path: Path,
) -> None:
    table = block(PAGE, "syslog-config", "toml").split("[[listen]]")[2]
    keys = "".join(
        line for line in table.splitlines(True) if not re.match(r" |path|protocol", line)
    )
    agent = AgentProcess(tmp_path / "a", syslog={"syslog.sock": keys}).start()
    command = block(PAGE, "syslog-try", "").replace(
        "/run/hf-agent/syslog.sock", str(agent.folder / "syslog.sock")
    )
    try:
        subprocess.run(["bash", "-euc", command], check=True, timeout=60)
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    (line,) = stored_lines(agent, "relayed")
    assert re.fullmatch(rb"<13>1 \S+ \S+ web - - \[timeQuality [^]]*\] hello", line), line
