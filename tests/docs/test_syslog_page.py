"""What the page of protocol `syslog` shows is what the agent does."""

from __future__ import annotations

from hf_agent.config import parse
from hf_agent.ingest.syslog.json_line import json_line
from hf_agent.ingest.syslog.message import parse_message
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
