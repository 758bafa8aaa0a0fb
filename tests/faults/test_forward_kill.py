"""Agent and shippers are killed again and again: every event is stored once, and in order."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from support import forward_sender
from support.agent_process import AgentProcess
from support.containers import read_container
from support.forward_sender import entries_of, line_of

CHUNKS = int(os.environ.get("HF_KILL_CHUNKS", "2000"))
KILLS = int(os.environ.get("HF_KILL_KILLS", "20"))
WINDOWS = {"app.web": 64, "app.db": 3}


class Sender:
    """A shipper's process, started again when it is killed."""

    def __init__(self, agent: AgentProcess, seed: int, tag: str) -> None:
        self.seed = seed
        self.tag = tag
        self._agent = agent
        self._state = agent.folder / f"{tag}.answered"
        self._changed = threading.Condition()
        self._answered = 0
        self._stopping = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(sys.executable, str(forward_sender.__file__), str(self._agent.forward_socket)),
                *(str(self._state), str(self.seed), self.tag, str(CHUNKS), str(WINDOWS[self.tag])),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )

    def _read(self) -> None:
        while not self._stopping:
            assert self._process.stdout is not None
            for line in self._process.stdout:
                with self._changed:
                    # The last line of a killed process may be cut; a restarted one goes back some.
                    self._answered = max(self._answered, int(line) if line.endswith("\n") else 0)
                    self._changed.notify_all()
            self._process.stdout.close()
            if self._process.wait() >= 0:
                return
            self._process = self._start()

    def kill(self) -> None:
        self._process.kill()

    def wait_for(self, share: float) -> None:
        """Return when that share of the chunks is answered."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._answered >= share * CHUNKS, timeout=120)

    def finish(self) -> int:
        """The exit status at its end."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self._process.returncode

    def close(self) -> None:
        self._stopping = True
        if self._process.poll() is None:
            self._process.kill()
        self._thread.join()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_event_is_stored_once_and_in_order_through_twenty_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    agent = AgentProcess(
        tmp_path / "a",
        # Small appends and files, so that chunks are cut and files change between kills.
        wal='file_bytes = "1MiB"\nmax_bytes = "64MiB"\nmax_batch_bytes = "128KiB"',
        flush='interval = "100ms"\nretry_max = "1s"',
        max_record_bytes="8KiB",
    ).start()
    senders = [Sender(agent, seed + place, tag) for place, tag in enumerate(WINDOWS)]
    try:
        pause = threading.Event()
        shares = sorted(rng.uniform(0.01, 0.95) for _ in range(KILLS))
        for number, share in enumerate(shares):
            senders[number % 2].wait_for(share)
            # The moment of a kill is what is random here: nothing is awaited by this pause.
            pause.wait(rng.uniform(0, 0.05))
            agent.kill()
            if number % 4 == 3:
                rng.choice(senders).kill()
            agent.start()
            if number % 4 == 1:
                rng.choice(senders).kill()
        assert [sender.finish() for sender in senders] == [0, 0]
        assert agent.stop() == 0, agent.log_text()
    finally:
        for sender in senders:
            sender.close()
        agent.close()
    for sender in senders:
        stored = asyncio.run(read_container(agent, f"node-1/{sender.tag}")).splitlines()
        expected = [
            line_of(number, nanos, record)
            for number in range(CHUNKS)
            for nanos, record in entries_of(sender.seed, number)
        ]
        assert [json.loads(line) for line in stored] == expected
