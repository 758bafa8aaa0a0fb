"""The agent is killed twenty times under producers with epochs and appends to several streams."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.client import Client, ConnectionLost, Fenced
from support.agent_process import AgentProcess
from support.containers import read_container

KILLS = int(os.environ.get("HF_APPEND_KILLS", "20"))
APPENDS = int(os.environ.get("HF_APPEND_KILL_APPENDS", "4000"))
STREAMS = ("left", "right")


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    wal = 'file_bytes = "1MiB"\nmax_bytes = "64MiB"\nmax_batch_bytes = "128KiB"'
    flush = 'interval = "50ms"\nretry_max = "1s"'
    process = AgentProcess(tmp_path / "a", wal=wal, flush=flush, max_record_bytes="128KiB")
    yield process
    process.close()


class Writers:
    """One producer through epochs: each client is replaced by the next before it is told so."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        self.rng = rng
        self.number = 0
        self.together: list[bytes] = []
        self.counted: list[bytes] = []
        self.fenced = 0
        self.pause = threading.Event()
        self.failures: list[BaseException] = []

    def run(self, progress: threading.Semaphore) -> None:
        try:
            old: Client | None = None
            epoch = 0
            while self.number < APPENDS:
                client = self.connect(epoch)
                if old is not None:
                    self.check_is_fenced(old)
                self.write(client, progress)
                old, epoch = client, epoch + self.rng.randint(1, 3)
            assert old is not None
            old.close()
        except BaseException as error:
            self.failures.append(error)
        finally:
            progress.release(APPENDS)

    def connect(self, epoch: int) -> Client:
        """A client makes one attempt at first; the agent may be down just then."""
        for _ in range(600):
            try:
                return Client(self.path, "writer", epoch=epoch, reconnect_timeout=120)
            except ConnectionLost:
                self.pause.wait(0.1)
        raise AssertionError("no agent for a minute")

    def write(self, client: Client, progress: threading.Semaphore) -> None:
        """A few hundred appends, all acknowledged at the end; the client stays open."""
        for _ in range(self.rng.randint(100, 600)):
            text = b"<%d %s>" % (self.number, b"x" * self.rng.choice((0, 50, 3000)))
            self.number += 1
            if self.rng.random() < 0.6:
                client.append_together([(stream, text) for stream in STREAMS])
                self.together.append(text)
            else:
                # Nobody else writes there in this epoch, so the position is known beforehand.
                position = sum(map(len, self.counted))
                client.append("counted", text, expect_position=position)
                self.counted.append(text)
            progress.release()
        client.wait_acknowledged()

    def check_is_fenced(self, old: Client) -> None:
        with pytest.raises(Fenced):
            while True:
                old.append_together([(stream, b"<LATE>") for stream in STREAMS])
                old.wait_acknowledged()
        self.fenced += 1
        old.abort()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_through_twenty_kills_each_append_is_there_once_and_no_late_one(
    agent: AgentProcess,
) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    writers = Writers(agent.append_socket, random.Random(seed + 1))
    progress = threading.Semaphore(0)
    agent.start()
    thread = threading.Thread(target=writers.run, args=(progress,))
    thread.start()
    pause = threading.Event()
    for _ in range(KILLS):
        for _ in range(APPENDS // (KILLS + 2)):
            progress.acquire()
        # The moment of a kill is what is random here: nothing is awaited by this pause.
        pause.wait(rng.uniform(0, 0.02))
        agent.kill()
        agent.start()
    thread.join(200)
    assert not thread.is_alive()
    assert not writers.failures, writers.failures
    assert writers.fenced >= 3
    assert agent.stop() == 0, agent.log_text()

    def contents(stream: str) -> bytes:
        return asyncio.run(read_container(agent, f"node-1/{stream}"))

    expected = b"".join(writers.together)
    assert contents("left") == expected
    assert contents("right") == expected
    assert contents("counted") == b"".join(writers.counted)
