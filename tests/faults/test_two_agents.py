"""Two agents with one configuration write to the same keys and are killed meanwhile.

A copied configuration, or a node's name given twice: both have a write-ahead log of their own, and
one store. All the time new streams begin, so that the two meet at every step: creating a
container, binding to it, committing, finishing what the other one left half done.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.containers import agent_store
from support.moto_s3 import MotoS3, moto_s3
from support.s3_servers.faults import SeededPlan
from support.s3_servers.servers import behind_faults
from support.shared_key import check_exactly_once, read_family

__all__ = ["moto_s3"]

SECONDS = float(os.environ.get("HF_TWO_AGENTS_SECONDS", "8"))
KILLS = int(os.environ.get("HF_TWO_AGENTS_KILLS", str(max(2, int(SECONDS / 5)))))
STREAM_SECONDS = 0.5
"""A stream begins this often; the last three are written to, and one that is always there."""
RATE, STALL = 0.05, 0.2
"""Share of requests at which a fault begins, and how long a stalled one takes, in seconds."""

WAL = 'file_bytes = "4MiB"\nmax_bytes = "64MiB"\nmax_batch_bytes = "512KiB"'
FLUSH = (
    'interval = "100ms"\nbytes = "512KiB"\nblock_size = "4KiB"\nretry_max = "500ms"\n'
    'shutdown_timeout = "120s"'
)


class Writer:
    """An agent and the client that loads it; `lines` is what the agent has acknowledged."""

    def __init__(self, name: str, agent: AgentProcess, rng: random.Random) -> None:
        self.name = name.encode()
        self.agent = agent
        self.rng = rng
        self.lines: dict[str, list[bytes]] = {}
        self.error: BaseException | None = None
        self._began = threading.Event()
        self._connected = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Start the agent, and connect to it."""
        self.agent.start()
        self._thread.start()
        assert self._connected.wait(60)

    def begin(self) -> None:
        self._began.set()

    def join(self) -> None:
        self._thread.join(300)
        assert not self._thread.is_alive()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self._send()
        except BaseException as error:
            self.error = error

    def _send(self) -> None:
        sent: dict[str, list[bytes]] = {}
        with Client(
            self.agent.append_socket, producer=fresh_producer(), reconnect_timeout=120
        ) as client:
            self._connected.set()
            self._began.wait()
            began, number = time.monotonic(), 0
            while (age := time.monotonic() - began) < SECONDS:
                stream = self._stream(int(age / STREAM_SECONDS))
                pad = b"x" * self.rng.choice((10, 100, 100, 1000, 6000))
                line = b"%s %07d %s\n" % (self.name, number, pad)
                client.append(stream, line)
                sent.setdefault(stream, []).append(line)
                number += 1
                if number % 50 == 0:
                    client.wait_acknowledged()
            client.wait_acknowledged()
        self.lines = sent

    def meet(self) -> None:
        """One more line, and return when the store has it."""
        line = b"%s at last, %d\n" % (self.name, len(self.lines.get("always", ())))
        with Client(self.agent.append_socket, producer=fresh_producer()) as client:
            client.append("always", line)
            client.flush("always", timeout=120)
        self.lines.setdefault("always", []).append(line)

    def _stream(self, newest: int) -> str:
        back = self.rng.randrange(4)
        return "always" if back == 3 else f"s{max(0, newest - back):03d}"


@pytest.fixture
def seed() -> int:
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed} HF_TWO_AGENTS_SECONDS={SECONDS:g}")
    return seed


@pytest.fixture(params=["directory", "s3", "s3-with-faults"])
def agents(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int
) -> Iterator[list[AgentProcess]]:
    if request.param == "directory":
        yield from make_agents(tmp_path, f"file://{tmp_path}/store")
        return
    server: MotoS3 = request.getfixturevalue("moto_s3")
    url = f"s3://{server.make_bucket()}/logs"
    if request.param == "s3":
        yield from make_agents(tmp_path, url, server.endpoint_url, env=server.env)
        return
    plan = SeededPlan(seed, rate=RATE)
    with behind_faults(server, plan, stall=STALL) as faulty:
        for agents in make_agents(tmp_path, url, faulty.endpoint_url, env=server.env):
            for agent in agents:
                agent.s3["endpoint_url"] = server.endpoint_url  # as it is read in the end
            yield agents
    assert plan.log, "nothing went wrong: the test shows nothing"


def make_agents(
    folder: Path, url: str, endpoint_url: str = "", env: Mapping[str, str] | None = None
) -> Iterator[list[AgentProcess]]:
    agents = [
        AgentProcess(
            folder / name,
            store_url=url,
            s3={"endpoint_url": endpoint_url, "addressing": "path"} if endpoint_url else {},
            env=env,
            wal=WAL,
            flush=FLUSH,
            max_record_bytes="64KiB",
        )
        for name in "AB"
    ]
    yield agents
    for agent in agents:
        agent.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_agents_on_the_same_keys_store_all_that_either_acknowledged_once(
    agents: list[AgentProcess], seed: int
) -> None:
    rng = random.Random(seed)
    writers = [
        Writer(name, agent, random.Random(seed + number))
        for number, (name, agent) in enumerate(zip("AB", agents, strict=True))
    ]
    for writer in writers:
        writer.start()
    began = time.monotonic()
    for writer in writers:
        writer.begin()
    pause = threading.Event()
    for moment in sorted(rng.uniform(0.05, 0.95) * SECONDS for _ in range(2 * KILLS)):
        # The moment of a kill is what is random here: nothing is awaited by this pause.
        pause.wait(max(0.0, began + moment - time.monotonic()))
        victim = rng.choice(agents)
        victim.kill()
        victim.start()
    for writer in writers:
        writer.join()
    for writer in (*writers, *writers):
        writer.meet()  # whatever came of the load: here one of them loses, at the latest
    for agent in agents:
        agent.send(signal.SIGTERM)
    for agent in agents:
        assert agent.wait(180) == 0, agent.log_text()[-5000:]
        assert "everything is flushed" in agent.log_text()
    siblings = asyncio.run(check_streams(agents[0], writers))
    appends = sum(len(lines) for writer in writers for lines in writer.lines.values())
    streams = {stream for writer in writers for stream in writer.lines}
    print(f"appends={appends} streams={len(streams)} siblings={siblings} kills={2 * KILLS}")
    assert siblings, "they have never met"
    for agent in agents:
        check_log(agent)


async def check_streams(agent: AgentProcess, writers: list[Writer]) -> int:
    """Read every stream back; returns how many had a sibling."""
    store, siblings = agent_store(agent), 0
    try:
        for stream in sorted({stream for writer in writers for stream in writer.lines}):
            family = await read_family(store, f"node-1/{stream}")
            expected = {writer.name + b" ": writer.lines.get(stream, []) for writer in writers}
            check_exactly_once(family, expected)
            assert len(family) <= 2, f"one of two goes away, and once: {list(family)}"
            siblings += len(family) - 1
    finally:
        await store.close()
    return siblings


def check_log(agent: AgentProcess) -> None:
    """No stream was diverted twice in one life of the process, nor went on in a sibling's."""
    diverted: Counter[str] = Counter()
    for line in agent.log_text().splitlines():
        entry = json.loads(line)
        if entry["message"] == "ready":
            diverted.clear()
        elif entry["message"].startswith("conflict:"):
            diverted[entry["stream"]] += 1
            assert diverted[entry["stream"]] == 1, line
            assert "sibling container" not in entry["message"], line
