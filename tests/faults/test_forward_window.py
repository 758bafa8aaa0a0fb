"""How long an agent knows a chunk again, as configured, across restarts."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import msgpack

from support.agent_process import AgentProcess
from support.containers import stored_lines
from support.forward_wire import packed


def send(agent: AgentProcess, numbers: Sequence[int]) -> None:
    """Send a chunk for each number, and wait for the acknowledgements, which come in order."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(agent.forward_socket))
        for number in numbers:
            client.sendall(packed("app", [1, {"n": number}], chunk=f"chunk-{number}", size=1))
        answers = msgpack.Unpacker()
        acks: list[str] = []
        while len(acks) < len(numbers):
            data = client.recv(4096)
            assert data, "the agent ended the connection"
            answers.feed(data)
            acks += [answer["ack"] for answer in answers]
    assert acks == [f"chunk-{number}" for number in numbers]


def stored(agent: AgentProcess) -> list[int]:
    """The numbers in the store once the agent has stopped."""
    assert agent.stop() == 0, agent.log_text()
    return [json.loads(line)["n"] for line in stored_lines(agent, "app")]


def test_the_newest_chunks_are_known_after_a_kill_and_older_ones_are_stored_again(
    tmp_path: Path,
) -> None:
    agent = AgentProcess(tmp_path / "a", wal="max_chunk_ids = 3")
    try:
        agent.start()
        send(agent, range(6))
        agent.kill()
        agent.start()
        send(agent, [5, 4, 3])
        agent.kill()
        agent.start()
        # A chunk that is known is not new: it has pushed none of the others out.
        send(agent, [3, 4, 5, 2])
        assert stored(agent) == [*range(6), 2]
    finally:
        agent.close()


def test_a_chunk_is_forgotten_when_its_time_is_over(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a", wal='max_chunk_age = "1s"')
    try:
        agent.start()
        send(agent, [0])
        deadline = time.monotonic() + 120
        while taken(agent) == 1:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            send(agent, [0])
        assert stored(agent) == [0, 0]
    finally:
        agent.close()


def taken(agent: AgentProcess) -> int:
    """Records that the agent has made durable since it was started."""
    name = 'hf_agent_acked_records_total{protocol="forward"} '
    return int(float(agent.get("/metrics")[1].split(name)[1].split("\n")[0]))
