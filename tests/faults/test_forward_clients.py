"""Shippers that people run, against a real agent: what they send arrives, and what kills cost."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fluent import asyncsender
from fluent.sender import EventTime, FluentSender

from support.agent_process import AgentProcess
from support.containers import read_container

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


class Logger:
    """A process that emits events, and what it has said of itself."""

    def __init__(self, agent: AgentProcess, count: int) -> None:
        self.said = -1
        self._changed = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOGGER, str(agent.forward_socket), str(count)],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                with self._changed:
                    self.said = int(line)
                    self._changed.notify_all()
        self.process.stdout.close()

    def wait_for(self, number: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.said >= number, timeout=60)

    def finish(self, *, kill: bool = False) -> int:
        if kill:
            self.process.kill()
        status = self.process.wait(60)
        self._thread.join(60)
        return status


def test_of_a_fluent_logger_that_is_killed_all_it_sent_is_kept_once(agent: AgentProcess) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    expected: list[int] = []
    first = 0
    said = []
    for _ in range(5):
        logger = Logger(agent, 100_000)
        logger.wait_for(rng.randrange(1, 3000))
        logger.finish(kill=True)
        said.append(logger.said)
    rows = [row["n"] for row in stored(agent)]
    for last in said:
        # The process may have sent one more than it came to say; each begins at 0 again.
        run: list[int] = []
        while first < len(rows) and rows[first] == len(run):
            run.append(rows[first])
            first += 1
        assert len(run) in (last + 1, last + 2)
        expected += run
    assert rows == expected


def test_a_fluent_logger_goes_on_when_the_agent_is_killed_and_loses_no_more_than_it_must(
    agent: AgentProcess,
) -> None:
    """It gets no acknowledgements, so what was under way at a kill may be lost, or come twice."""
    count, kills = 20_000, 4
    logger = Logger(agent, count)
    for kill in range(kills):
        logger.wait_for((kill + 1) * count // (kills + 2))
        agent.kill()
        agent.start()
    logger.wait_for(count - 1)
    assert logger.finish() == 0
    rows = [row["n"] for row in stored(agent)]
    steps = [after - before for before, after in pairwise([-1, *rows])]
    gaps = [step - 1 for step in steps if step > 1]
    repeated = [step for step in steps if step < 1]
    print(f"lost {gaps}, came again {repeated}")
    assert len(gaps) <= kills, "whole but for what was in the socket when the agent was killed"
    assert len(repeated) <= kills
    assert rows[-1] == count - 1


def has_node_client() -> bool:
    """Whether node.js finds `@fluent-org/logger` (by NODE_PATH)."""
    if shutil.which("node") is None:
        return False
    found = subprocess.run(
        ["node", "-e", 'require.resolve("@fluent-org/logger")'], capture_output=True
    )
    return found.returncode == 0


@pytest.mark.skipif(
    not has_node_client(), reason="node.js or its package @fluent-org/logger is not installed"
)
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
