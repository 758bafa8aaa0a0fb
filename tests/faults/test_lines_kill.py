"""Joined lines through SIGKILLs of the agent: what end of file acknowledged is there, groups whole.

Longer: `HF_KILL_KILLS` and `HF_KILL_GROUPS`. A failure prints its seed; `HF_SEED` repeats it.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.assembled import message_of, objects
from support.containers import read_container
from support.sent_lines import Chunk

GROUPS = int(os.environ.get("HF_KILL_GROUPS", "60000"))
KILLS = int(os.environ.get("HF_KILL_KILLS", "5"))
LINES = "start_pattern = 'group '\nmax_group_wait = \"60s\"\n"


def group(attempt: int, number: int) -> bytes:
    """Group `number` of the job, sent in chunk `attempt`: one to six lines."""
    rest = b"".join(b"    line %d of group %d\n" % (line, number) for line in range(number % 6))
    return b"group %06d %07d\n" % (attempt, number) + rest


class Sender(threading.Thread):
    """Sends all groups over many connections; what was cut off is sent again, as another chunk."""

    def __init__(self, path: Path, seed: int) -> None:
        super().__init__()
        self.chunks: list[Chunk] = []
        self.attempts = threading.Semaphore(0)
        """Released as a chunk is on its way."""
        self._path = path
        self._rng = random.Random(seed)

    def run(self) -> None:
        number = 0
        while number < GROUPS:
            count = min(self._rng.randint(500, 5000), GROUPS - number)
            acknowledged = self._send(len(self.chunks), number, count)
            self.chunks.append(Chunk(number, count, acknowledged))
            if acknowledged:
                number += count
        for _ in range(KILLS):
            self.attempts.release()

    def _send(self, attempt: int, number: int, count: int) -> bool:
        data = b"".join(group(attempt, number + index) for index in range(count))
        middle = self._rng.randrange(len(data))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(60)
                connection.connect(str(self._path))
                connection.sendall(data[:middle])
                self.attempts.release()
                connection.sendall(data[middle:])
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(1) == b""
        except OSError:
            return False  # killed under us, or not up again yet


@pytest.fixture(params=["raw", "json"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(
        tmp_path / "a",
        lines=f'{LINES}format = "{request.param}"',
        wal='file_bytes = "4MiB"\nmax_bytes = "256MiB"\nmax_batch_bytes = "1MiB"',
        max_record_bytes="1MiB",
    )
    yield process
    process.close()


@pytest.mark.slow
def test_acknowledged_groups_are_stored_and_no_group_is_ever_cut(
    agent: AgentProcess, request: pytest.FixtureRequest
) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    agent.start()
    sender = Sender(agent.lines_socket, seed)
    sender.start()
    pause = threading.Event()
    for _ in range(KILLS):
        for _ in range(rng.randint(1, 3)):
            assert sender.attempts.acquire(timeout=120)
        # The moment of a kill is what is random here: nothing is awaited by this pause.
        pause.wait(rng.uniform(0, 0.01))
        agent.kill()
        agent.start()
    sender.join(240)
    assert not sender.is_alive()
    assert agent.stop() == 0, agent.log_text()

    stored = asyncio.run(read_container(agent, "node-1/lines"))
    if "json" in request.node.name:
        stored = b"".join(message_of(line) + b"\n" for line in objects(stored))
    check(stored, sender.chunks)
    assert len(sender.chunks) > sum(chunk.acknowledged for chunk in sender.chunks)


def check(stored: bytes, chunks: list[Chunk]) -> None:
    """Acknowledged chunks are there once, in order; of others a prefix, of whole groups."""
    place = 0
    for attempt, chunk in enumerate(chunks):
        found = 0
        while stored.startswith(b"group %06d " % attempt, place):
            whole = group(attempt, chunk.first + found)
            assert stored.startswith(whole, place), f"a group was cut attempt={attempt}"
            place += len(whole)
            found += 1
        assert found <= chunk.count
        if chunk.acknowledged:
            assert found == chunk.count, f"chunk {attempt} was acknowledged whole"
    assert place == len(stored), stored[place : place + 100]
