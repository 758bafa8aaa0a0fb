"""Shippers that people run, against a real agent: what they send arrives, and what kills cost."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fluent import asyncsender
from fluent.sender import EventTime, FluentSender

from support.agent_process import AgentProcess
from support.containers import read_container
from support.node_client import needs_node_client
from support.numbered_sender import NumberedSender

LOGGER = """
import sys, time
from fluent.sender import FluentSender

sender = FluentSender("app", host="unix://" + sys.argv[1], timeout=30, bufmax=64 << 20)
for number in range(int(sys.argv[2])):
    if not sender.emit_with_time("web", number, {"n": number, "log": "x" * (number % 500)}):
        time.sleep(0.01)  # the library has kept it, and sends it with the next one
    print(number, flush=True)
sender.close()
"""
"""Emits numbered events; says of each one when the library has taken it."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a", flush='interval = "100ms"').start()
    yield process
    process.close()


def stored(agent: AgentProcess, stream: str = "app.web") -> list[dict[str, Any]]:
    """What is in the store once the agent has stopped."""
    assert agent.stop() == 0, agent.log_text()
    content = asyncio.run(read_container(agent, f"node-1/{stream}"))
    return [json.loads(line) for line in content.splitlines()]


def test_fluent_logger_writes_over_the_socket(agent: AgentProcess) -> None:
    records: list[dict[str, Any]] = [
        {"text": "grün\n", "number": 2**64 - 1, "nested": {"list": [1, 2.5, None, True]}},
        {"bytes": b"\xff\x00", "time": "mine"},
        {},
    ]
    with FluentSender("app", host=f"unix://{agent.forward_socket}") as sender:
        assert sender.emit_with_time("web", 1_700_000_000, records[0])
        assert sender.emit_with_time("web", EventTime(1_700_000_000, 123_456_789), records[1])
        assert sender.emit_with_time("web", 0, records[2])
    assert stored(agent) == [
        {"time": "2023-11-14T22:13:20.000000000Z", **records[0]},
        {
            "time": "2023-11-14T22:13:20.123456789Z",
            "bytes": {"$bytes": "/wA="},
            "$time": "mine",
        },
        {"time": "1970-01-01T00:00:00.000000000Z"},
    ]


def test_the_asynchronous_fluent_logger_writes_all_that_it_queued(agent: AgentProcess) -> None:
    sender = asyncsender.FluentSender("app", host=f"unix://{agent.forward_socket}", timeout=30)
    for number in range(5000):
        assert sender.emit_with_time("web", number, {"n": number})
    sender.close()
    assert [row["n"] for row in stored(agent)] == list(range(5000))


def logger(agent: AgentProcess, count: int) -> NumberedSender:
    """A process that emits events, and says of each one when the library has taken it."""
    return NumberedSender([sys.executable, "-c", LOGGER, str(agent.forward_socket), str(count)])


def test_of_a_fluent_logger_that_is_killed_all_it_sent_is_kept_once(agent: AgentProcess) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    expected: list[int] = []
    first = 0
    said = []
    for _ in range(5):
        sender = logger(agent, 100_000)
        sender.wait_for(rng.randrange(1, 3000))
        sender.finish(kill=True)
        said.append(len(sender.said))
    rows = [row["n"] for row in stored(agent)]
    for count in said:
        # The process may have sent one more than it came to say; each begins at 0 again.
        run: list[int] = []
        while first < len(rows) and rows[first] == len(run):
            run.append(rows[first])
            first += 1
        assert len(run) in (count, count + 1)
        expected += run
    assert rows == expected


def test_a_fluent_logger_goes_on_when_the_agent_is_killed_and_loses_no_more_than_it_must(
    agent: AgentProcess,
) -> None:
    """What was under way at a kill may be lost, or come twice.

    The library never puts a `chunk` into a message and reads nothing from its socket (0.11), so it
    gets no acknowledgements and knows of no loss. Those that do: `test_forward_acks.py`.
    """
    count, kills = 20_000, 4
    sender = logger(agent, count)
    for kill in range(kills):
        sender.wait_for((kill + 1) * count // (kills + 2))
        agent.kill()
        agent.start()
    sender.wait_for(count)
    assert sender.finish() == 0
    rows = [row["n"] for row in stored(agent)]
    steps = [after - before for before, after in pairwise([-1, *rows])]
    gaps = [step - 1 for step in steps if step > 1]
    repeated = [step for step in steps if step < 1]
    print(f"lost {gaps}, came again {repeated}")
    assert len(gaps) <= kills, "whole but for what was in the socket when the agent was killed"
    assert len(repeated) <= kills
    assert rows[-1] == count - 1


@needs_node_client
def test_the_logger_for_node_speaks_every_mode_with_handshake_and_acknowledgements(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(
        tmp_path / "a",
        forward="""
shared_key = "open sesame"
[[listen.forward.users]]
name = "web"
password = "secret"
""",
    ).start()
    script = Path(__file__).parents[1] / "support" / "forward_client.js"
    try:
        subprocess.run(
            ["node", str(script), str(agent.forward_socket), "open sesame", "web", "secret"],
            check=True,
            timeout=120,
        )
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    for mode in ("Message", "Forward", "PackedForward", "CompressedPackedForward"):
        content = asyncio.run(read_container(agent, f"node-1/app.{mode}"))
        assert [json.loads(line) for line in content.splitlines()] == [
            {"time": f"1970-01-01T00:0{n // 60}:{n % 60:02d}.000000007Z", "n": n, "text": "grün\n"}
            for n in range(300)
        ]
