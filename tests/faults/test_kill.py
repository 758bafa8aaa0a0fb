"""The agent is killed again and again while it works: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.containers import read_container
from support.moto_s3 import MotoS3, moto_s3
from support.sent_lines import Chunk, check_lines, line

__all__ = ["moto_s3"]

LINES = int(os.environ.get("HF_KILL_LINES", "1000000"))
APPENDS = int(os.environ.get("HF_KILL_APPENDS", "100000"))
KILLS = int(os.environ.get("HF_KILL_KILLS", "10"))
STREAMS = ("app/web", "app/db", "audit")


@dataclass
class Progress:
    """How far the senders are, as a share of the whole; the killer waits on it."""

    total: int
    done: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, count: int) -> None:
        with self.changed:
            self.done += count
            self.changed.notify_all()

    def wait_for(self, share: float) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.done >= share * self.total, timeout=240)


def send_lines(path: Path, rng: random.Random, progress: Progress, chunks: list[Chunk]) -> None:
    """Send LINES lines over many connections; a chunk that was cut off is sent again as another."""
    number = 0
    while number < LINES:
        count = min(rng.randint(1_000, 40_000), LINES - number)
        attempt = len(chunks)
        data = b"".join(line(attempt, number + i) for i in range(count))
        acknowledged = False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(60)
                connection.connect(str(path))
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                acknowledged = connection.recv(1) == b""
        except OSError:
            # Killed under us, or not up again yet.
            pass
        chunks.append(Chunk(number, count, acknowledged))
        if acknowledged:
            number += count
            progress.add(count)


def send_appends(path: Path, rng: random.Random, progress: Progress) -> dict[str, list[bytes]]:
    """Send APPENDS appends through the client; returns what each stream must hold, in order."""
    sent: dict[str, list[bytes]] = {name: [] for name in STREAMS}
    with Client(path, producer=fresh_producer(), reconnect_timeout=120) as client:
        for number in range(APPENDS):
            stream = STREAMS[number % 3] if rng.random() < 0.5 else STREAMS[0]
            data = b"<%d %s>" % (number, b"x" * rng.choice((0, 10, 100, 1000)))
            client.append(stream, data)
            sent[stream].append(data)
            if number % 1000 == 999:
                client.wait_acknowledged()
                progress.add(1000 * LINES // APPENDS)
        client.wait_acknowledged()
    return sent


@pytest.fixture(params=["directory", "s3"])
def agent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AgentProcess]:
    wal = 'file_bytes = "4MiB"\nmax_bytes = "256MiB"\nmax_batch_bytes = "1MiB"'
    flush = 'interval = "100ms"\nbytes = "2MiB"\nretry_max = "1s"'
    if request.param == "directory":
        process = AgentProcess(tmp_path / "a", wal=wal, flush=flush, max_record_bytes="1MiB")
    else:
        server: MotoS3 = request.getfixturevalue("moto_s3")
        process = AgentProcess(
            tmp_path / "a",
            store_url=f"s3://{server.make_bucket()}/logs",
            s3={"endpoint_url": server.endpoint_url, "addressing": "path"},
            env=server.env,
            wal=wal,
            flush=flush,
            max_record_bytes="1MiB",
        )
    yield process
    process.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_acknowledged_append_is_stored_once_and_in_order_through_ten_kills(
    agent: AgentProcess,
) -> None:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    progress = Progress(total=2 * LINES)
    chunks: list[Chunk] = []
    sent: dict[str, list[bytes]] = {}
    failures: list[BaseException] = []

    def guarded(sender: Callable[[], None]) -> None:
        try:
            sender()
        except BaseException as error:
            failures.append(error)
            progress.add(progress.total)

    senders = [
        lambda: send_lines(agent.lines_socket, random.Random(seed + 1), progress, chunks),
        lambda: sent.update(send_appends(agent.append_socket, random.Random(seed + 2), progress)),
    ]
    agent.start()
    threads = [threading.Thread(target=guarded, args=(sender,)) for sender in senders]
    for thread in threads:
        thread.start()
    pause = threading.Event()
    for share in sorted(rng.uniform(0.01, 0.9) for _ in range(KILLS)):
        progress.wait_for(share)
        # The moment of a kill is what is random here: nothing is awaited by this pause.
        pause.wait(rng.uniform(0, 0.2))
        agent.kill()
        agent.start()
    for thread in threads:
        thread.join(600)
        assert not thread.is_alive()
    assert not failures, failures

    assert agent.stop() == 0, agent.log_text()

    def contents(stream: str) -> bytes:
        return asyncio.run(read_container(agent, f"node-1/{stream}"))

    for stream, appends in sent.items():
        assert contents(stream) == b"".join(appends), stream
    check_lines(contents("lines"), chunks)
    assert len(agent.wal_files()) == 1
