"""Shippers' own clients that ask for acknowledgements: an acknowledged event is in the store.

`fluent-logger` for Python cannot ask (`test_forward_clients.py` has it). Two that can differ in
what they do about a chunk that was not answered, and so in what they get: the one for Go sends the
same chunk again, and has each event once; the one for node.js makes a new chunk of it, with another
id, and has each event at least once.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.containers import stored_lines
from support.node_client import needs_node_client
from support.numbered_sender import NumberedSender

GO_CLIENT = os.environ.get("HF_AGENT_FORWARD_GO", "")
needs_go_client = pytest.mark.skipif(
    not GO_CLIENT,
    reason="HF_AGENT_FORWARD_GO does not name the program of tests/support/forward_go",
)
KILLS = int(os.environ.get("HF_SENDER_KILLS", "2"))
COUNT = 400 * KILLS
"""Events of one sender."""
STREAMS = [f"app.web-{number}" for number in range(6)]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a", flush='interval = "100ms"').start()
    yield process
    process.close()


def seeded() -> random.Random:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    return random.Random(seed)


def line(number: int) -> bytes:
    """What the event of this number becomes."""
    hours, rest = divmod(number, 3600)
    time = f"1970-01-01T{hours:02d}:{rest // 60:02d}:{rest % 60:02d}.000000007Z"
    return f'{{"time":"{time}","log":"{number} {"ü" * (number % 300)}"}}'.encode()


def known_again(agent: AgentProcess) -> int:
    """Records that the agent has found to be sent again since it was started."""
    metrics = agent.get("/metrics")[1]
    counted = metrics.split("\nhf_agent_deduplicated_records_total ")[1]
    return int(float(counted.split("\n")[0]))


@needs_go_client
def test_events_of_the_logger_for_go_are_stored_once_and_in_order_through_kills_of_the_agent(
    agent: AgentProcess,
) -> None:
    rng = seeded()
    senders = [
        NumberedSender([GO_CLIENT, str(agent.forward_socket), stream, str(COUNT)])
        for stream in STREAMS
    ]
    again = 0
    try:
        for kill in range(KILLS):
            rng.choice(senders).wait_for(kill * COUNT // KILLS + rng.randrange(1, COUNT // KILLS))
            again += known_again(agent)
            agent.kill()
            agent.start()
        assert [sender.finish() for sender in senders] == [0] * len(senders)
    finally:
        for sender in senders:
            sender.finish(kill=True)
    again += known_again(agent)
    print(f"acknowledged without being stored again: {again}")
    assert agent.stop() == 0, agent.log_text()
    for sender, stream in zip(senders, STREAMS, strict=True):
        assert sender.said == list(range(COUNT))
        assert stored_lines(agent, stream) == [line(number) for number in range(COUNT)]


@needs_go_client
def test_of_a_logger_for_go_that_is_killed_each_acknowledged_event_is_stored_once(
    agent: AgentProcess,
) -> None:
    rng = seeded()
    senders = [
        NumberedSender([GO_CLIENT, str(agent.forward_socket), stream, "1000000"])
        for stream in STREAMS
    ]
    try:
        for sender in senders:
            sender.wait_for(rng.randrange(1, 100))
            sender.finish(kill=True)
    finally:
        for sender in senders:
            sender.finish(kill=True)
    assert agent.stop() == 0, agent.log_text()
    for sender, stream in zip(senders, STREAMS, strict=True):
        stored = stored_lines(agent, stream)
        # It may have been killed between sending one more and saying that it is acknowledged.
        assert len(stored) in (len(sender.said), len(sender.said) + 1)
        assert stored == [line(number) for number in range(len(stored))]


@needs_node_client
def test_events_of_the_logger_for_node_are_stored_at_least_once_through_kills_of_the_agent(
    agent: AgentProcess,
) -> None:
    rng = seeded()
    count = 1000 * KILLS
    script = Path(__file__).parents[1] / "support" / "forward_client_kills.js"
    sender = NumberedSender(["node", str(script), str(agent.forward_socket), "app", str(count)])
    try:
        for kill in range(KILLS):
            sender.wait_for(kill * count // KILLS + rng.randrange(1, count // KILLS))
            agent.kill()
            agent.start()
        assert sender.finish() == 0
    finally:
        sender.finish(kill=True)
    assert agent.stop() == 0, agent.log_text()
    assert sorted(sender.said) == list(range(count))
    times = Counter(stored_lines(agent, "app"))
    print(f"stored again: {times.total() - count}")
    assert sorted(times) == sorted(line(number) for number in range(count))
