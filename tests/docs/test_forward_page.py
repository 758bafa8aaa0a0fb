"""What the page of protocol `forward` shows is what the agent does."""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hf_agent.config import parse
from hf_agent.ingest.forward.entries import Slice
from hf_agent.ingest.forward.json_lines import JsonLines
from support.agent_process import AgentProcess
from support.containers import read_container
from support.forward_wire import pack
from support.readme import ROOT, block

PAGE = "docs/forward-protocol.md"
STORE = '\n[store]\nurl = "file:///srv/logs"\n'


@pytest.mark.parametrize("name", ["forward-config", "forward-handshake"])
def test_configurations_are_right(name: str) -> None:
    environment = {"FORWARD_KEY": "k", "FORWARD_WEB_PASSWORD": "p"}
    config = parse(block(PAGE, name, "toml") + STORE, environment=environment)
    assert config.listen[0].protocol == "forward"


def test_the_python_example_writes_the_line_that_is_shown(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a")
    script = block(PAGE, "forward-python", "python").replace(
        "/run/hf-agent/forward.sock", str(agent.forward_socket)
    )
    try:
        agent.start()
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    stored = asyncio.run(read_container(agent, "node-1/app.web")).decode()
    shown = block(PAGE, "forward-python-line", "json")
    time = r'(?<="time":")[0-9-]{10}T[0-9:]{8}\.[0-9]{9}Z(?=")'
    assert re.subn(time, "", stored) == re.subn(time, "", shown)
    assert len(re.findall(time, stored)) == 1


def table() -> list[tuple[str, str]]:
    """Each `value` → `text` in the table of values."""
    text = (ROOT / PAGE).read_text().split("<!-- forward-values -->\n")[1].split("\n\n")[0]
    examples: list[tuple[str, str]] = re.findall(r"`([^`]+)` → `([^`]+)`", text)
    assert len(examples) >= 12
    return examples


SPECIAL = {
    '{"a": 1, "a": 2}': b"\x82\xa1a\x01\xa1a\x02",
    r'b"\xff\xfe"': b"\xa2\xff\xfe",
    'b"abc"': b"\xc4\x03abc",
    r'b"\x00\xff"': b"\xc4\x02\x00\xff",
    "nan": pack(math.nan),
    "inf": pack(math.inf),
    "-inf": pack(-math.inf),
    'ExtType(5, b"abc")': pack(msgpack.ExtType(5, b"abc")),
    '{1: "x"}': pack({1: "x"}),
    r'"a\nb"': pack("a\nb"),
}


@pytest.mark.parametrize(("value", "text"), table())
def test_values_become_what_the_table_says(value: str, text: str) -> None:
    lines = JsonLines("time", "")

    def line(record: bytes) -> str:
        return lines.format(Slice(b"\x92\x01" + record, 1), b"t", b"").decode()

    prefix = '{"time":"1970-01-01T00:00:01.000000000Z",'
    packed = SPECIAL.get(value)
    if packed is None:
        packed = pack(json.loads(value))
    if text.startswith('"$') and ":" in text:  # it is about the record's own keys
        assert line(packed) == f"{prefix}{text}}}\n"
    else:
        assert line(b"\x81\xa1k" + packed) == f'{prefix}"k":{text}}}\n'


def test_every_reason_that_is_counted_is_explained() -> None:
    text = (ROOT / PAGE).read_text().split("## What is refused")[1]
    reasons: Any = {
        *("malformed", "too_large", "unsupported", "unauthorized", "bad_stream"),
        *("too_many_streams", "wal_full", "wal_failed", "no_buffer_space", "incomplete"),
    }
    assert {reason for reason in reasons if f"`{reason}`" not in text} == set()
