"""Syslog daemons and the agent are killed in any order: every message is accounted for."""

from __future__ import annotations

import os
import random
import re
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from hf_agent.ingest.datagram_queue import queue_length
from support.agent_process import AgentProcess
from support.containers import stored_lines
from support.syslog_daemons import DAEMONS, TABLES, Daemon

KILLS = int(os.environ.get("HF_SENDER_KILLS", "2"))
BURST = 100
PAUSE = 0.02
"""Seconds between two bursts of messages."""
HELD = 8000
"""Messages that a socket's buffers, the daemon and the agent hold at most in these tests."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a", syslog=TABLES, flush='interval = "100ms"').start()
    yield process
    process.close()


class Program:
    """Sends numbered messages to a daemon's socket; one that is refused it sends again."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._ends = threading.Event()
        self._failure: BaseException | None = None
        self.sent: list[float] = []
        """When each message was taken by the daemon's socket."""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            sending = self._connect()
            while not self._ends.wait(PAUSE):
                for _ in range(BURST):
                    message = b"<14>Oct 11 22:14:15 web[1]: number %06d." % len(self.sent)
                    try:
                        sending.send(message)
                    except OSError:
                        sending.close()
                        sending = self._connect()
                        break
                    self.sent.append(time.monotonic())
            sending.close()
        except BaseException as error:
            self._failure = error

    def _connect(self) -> socket.socket:
        while not self._ends.wait(PAUSE):
            sending = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sending.settimeout(60)
            try:
                sending.connect(str(self._source))
            except OSError:
                sending.close()
            else:
                return sending
        return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def wait_for(self, number: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.sent) < number:
            assert time.monotonic() < deadline and self._thread.is_alive(), self._failure
            time.sleep(0.01)

    def stop(self) -> int:
        """Returns how many messages were sent."""
        self._ends.set()
        self._thread.join(120)
        assert not self._thread.is_alive() and self._failure is None, self._failure
        return len(self.sent)


class Kill(NamedTuple):
    """What was killed, when, and when it was there again."""

    who: str
    at: float
    back: float


def taken(agent: AgentProcess) -> float:
    """How many records this run of the agent has made durable."""
    name = 'hf_agent_acked_records_total{protocol="syslog"} '
    return float(agent.get("/metrics")[1].split(name)[1].split()[0])


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_and_restart(agent: AgentProcess, daemon: Daemon, who: str) -> Kill:
    at = time.monotonic()
    order: dict[str, list[AgentProcess | Daemon]] = {
        "agent": [agent],
        "daemon": [daemon],
        "both": [agent, daemon],
        "BOTH": [daemon, agent],
    }
    for each in order[who]:
        each.kill()
    for each in order[who]:
        each.start()
    return Kill(who, at, time.monotonic())


def run(
    agent: AgentProcess,
    daemon: Daemon,
    kinds: list[str],
    stream: str,
    *,
    between: int = 2000,
    tail: int = 1000,
) -> tuple[list[int], Program, list[Kill]]:
    """The numbers that are stored, who sent them, and the kills that there were.

    Up to so many messages `between` two kills, and at least a `tail` behind the last one.
    """
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    rng.shuffle(kinds)
    kills: list[Kill] = []
    program = Program(daemon.source)
    try:
        for number in range(KILLS):
            program.wait_for(len(program.sent) + rng.randrange(1, between))
            who = kinds[number % len(kinds)]
            kills.append(kill_and_restart(agent, daemon, who))
            # The daemon has found the agent again, before the next kill.
            if who == "daemon":
                before = taken(agent)
                wait_until(lambda before=before: taken(agent) > before)  # type: ignore[misc]
            else:
                wait_until(lambda: taken(agent) > 0)
        program.wait_for(len(program.sent) + tail)
        last = program.stop() - 1
        # What the daemon still holds comes to the agent: the last one is the last of them.
        wait_until(
            lambda: bool(lines := stored_lines(agent, stream)) and number_of(lines[-1]) == last
        )
        assert agent.stop() == 0, agent.log_text()
    finally:
        program.stop()
        daemon.close()
    return [number_of(line) for line in stored_lines(agent, stream)], program, kills


def number_of(line: bytes) -> int:
    match = re.fullmatch(rb"<14>Oct 11 22:14:15 \S+ web\[1\]: number (\d{6})\.", line)
    assert match is not None, line
    return int(match[1])


def newest(agent: AgentProcess, stream: str) -> int:
    """The number of the message that was stored last; -1 if there is none."""
    lines = stored_lines(agent, stream)
    return number_of(lines[-1]) if lines else -1


def lost(rows: list[int]) -> list[tuple[int, int]]:
    """Stretches that are not stored: the first and the last of each."""
    found = sorted(set(rows))
    return [(a + 1, b - 1) for a, b in pairwise([-1, *found]) if b > a + 1]


def account(rows: list[int], program: Program, kills: list[Kill], *, held: int = HELD) -> list[int]:
    """How many messages are missing in each stretch, every one of which a kill explains."""
    gaps = lost(rows)
    again = [a - b + 1 for a, b in pairwise(rows) if b <= a]
    count = len(program.sent)
    print(f"{count} sent, killed: {', '.join(kill.who for kill in kills)}")
    print(f"lost {[(a, b - a + 1) for a, b in gaps]}, came again {again}")
    for a, b in gaps:
        assert any(
            bisect_left(program.sent, kill.at) - held <= a
            and b <= bisect_left(program.sent, kill.back) + HELD
            for kill in kills
        ), f"{a} to {b} are missing where nothing was killed"
    assert len(gaps) <= 2 * len(kills), "at a kill, and until the daemon has found the agent"
    assert len(again) <= len(kills), "in order but for what a restarted daemon repeats"
    assert rows[-100:] == list(range(count - 100, count)), "all that followed is whole"
    return [b - a + 1 for a, b in gaps]


@pytest.mark.parametrize(("make", "stream"), DAEMONS)
def test_what_is_missing_was_under_way_when_somebody_was_killed(
    agent: AgentProcess, tmp_path: Path, make: Callable[..., Daemon], stream: str
) -> None:
    kinds = ["daemon", "agent", "both", "BOTH"]
    account(*run(agent, make(agent, tmp_path), kinds, stream))


@pytest.mark.parametrize(("make", "stream"), DAEMONS[:1])
def test_a_killed_rsyslog_with_its_queue_on_disk_loses_only_what_it_had_not_put_there(
    agent: AgentProcess, tmp_path: Path, make: Callable[..., Daemon], stream: str
) -> None:
    daemon = make(agent, tmp_path, on_disk=True)
    rows, program, kills = run(agent, daemon, ["daemon"], stream, between=300, tail=200)
    length = queue_length()
    assert length is not None
    missing = account(rows, program, kills, held=length + 2)
    # The queue of the socket that it reads, and the one message that it had in its hands.
    assert len(missing) <= len(kills) and all(count <= length + 1 for count in missing)
