"""Programs that send, and the agent, are killed at random: every record is accounted for."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from support.agent_process import AgentProcess
from support.containers import stored_lines
from support.syslog_daemons import TABLES

ROUNDS = int(os.environ.get("HF_SENDER_KILLS", "2"))
KINDS = ("agent", "sender", "both", "BOTH")
"""Who is killed in a round: the agent only, the sender only, the agent first, the sender first."""

BURSTS = """
import sys, threading, time
ends = threading.Event()
def wait_for_end():
    sys.stdin.read()
    ends.set()
threading.Thread(target=wait_for_end, daemon=True).start()
def numbers():
    number = 0
    while not ends.wait(0.02):
        for _ in range(50):
            print(number, time.monotonic(), flush=True)
            yield number
            number += 1
    print("end", number, flush=True)
def text(number):
    return f"{sys.argv[2]} {number} " + "x" * (number % 97)
"""
"""Of a sender: it says the number of each record, and the time, before it sends it."""

SYSLOG_HANDLER = (
    BURSTS
    + """
import logging, logging.handlers, socket
kind = socket.SOCK_STREAM if "stream" in sys.argv[1] else socket.SOCK_DGRAM
while True:
    try:
        handler = logging.handlers.SysLogHandler(sys.argv[1], socktype=kind)
        break
    except OSError:
        time.sleep(0.02)
logging.raiseExceptions = False
for number in numbers():
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, text(number), None, None))
handler.close()
"""
)
FLUENT_LOGGER = (
    BURSTS
    + """
from fluent.sender import FluentSender
sender = FluentSender("app", host="unix://" + sys.argv[1], timeout=30, bufmax=64 << 20)
for number in numbers():
    sender.emit_with_time("web", number, {"log": text(number)})
sender.close()
"""
)

MARK = b"<14>mark"
"""A message of the test itself, behind all others in the queue of a datagram socket."""


class Said(NamedTuple):
    """What a sender said before it sent a record."""

    number: int
    at: float


class Program:
    """A sender of ours around a library: sends numbered records until it is told to stop."""

    def __init__(self, script: str, path: Path, round: int) -> None:
        self.said: list[Said] = []
        self._total: int | None = None
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-c", script, str(path), str(round)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break
            first, second = line.split()
            with self._changed:
                if first == "end":
                    self._total = int(second)
                else:
                    self.said.append(Said(int(first), float(second)))
                self._changed.notify_all()

    def wait_until(self, met: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(met, timeout=120)

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        self._process.kill()
        self._finish()

    def stop(self) -> None:
        """Have it end by itself."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._finish()
        assert self._process.returncode == 0 and self._total == len(self.said)

    def _finish(self) -> None:
        self._process.wait(120)
        self._thread.join(120)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Command:
    """A sender that is fed lines: what it has of them is not known, but for their order."""

    def __init__(self, command: Sequence[str], lines: Callable[[int], str]) -> None:
        self.said: list[Said] = []
        self._lines = lines
        self._ends = threading.Event()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()

    def _feed(self) -> None:
        assert self._process.stdin is not None
        try:
            while not self._ends.wait(0.02):
                for _ in range(50):
                    number = len(self.said)
                    self.said.append(Said(number, time.monotonic()))
                    self._process.stdin.write(self._lines(number).encode() + b"\n")
        except (BrokenPipeError, ConnectionError):
            pass  # it is gone
        finally:
            self._process.stdin.close()

    def wait_until(self, met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while not met():
            assert time.monotonic() < deadline and self._thread.is_alive()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL. Idempotent."""
        self._process.kill()
        self.stop()

    def stop(self) -> bytes:
        """Have it end by itself: what it printed."""
        self._ends.set()
        assert self._process.stdout is not None
        printed = b"" if self._process.stdout.closed else self._process.stdout.read()
        self._process.wait(120)
        self._thread.join(120)
        self._process.stdout.close()
        return printed


class Round(NamedTuple):
    """What happened in one round."""

    kind: str
    said: list[Said]
    killed: float
    back: float
    """When the agent was killed, and there again; 0 if it was not."""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(
        tmp_path / "a",
        syslog=TABLES,
        flush='interval = "100ms"',
        lines_stream="{first_line}",
        lines="say_ok = true",
    ).start()
    yield process
    process.close()


def seeded() -> tuple[random.Random, list[str]]:
    """And who is killed in each round."""
    seed = int(os.environ.get("HF_SEED", "0")) or random.SystemRandom().getrandbits(32)
    print(f"seed: HF_SEED={seed}")
    rng = random.Random(seed)
    kinds = rng.sample(KINDS, len(KINDS))
    return rng, [kinds[number % len(kinds)] for number in range(ROUNDS)]


def one_round(
    agent: AgentProcess, sender: Program | Command, kind: str, rng: random.Random
) -> Round:
    killed = back = 0.0
    try:
        many = rng.randrange(1, 1500)
        sender.wait_until(lambda: len(sender.said) >= many)
        if kind in ("sender", "BOTH"):
            sender.kill()
        if kind != "sender":
            killed = time.monotonic()
            agent.kill()
        if kind == "both":
            sender.kill()
        if kind != "sender":
            agent.start()
            back = time.monotonic()
        if kind == "agent":
            sender.wait_until(lambda: sum(said.at > back for said in sender.said[-400:]) > 200)
            sender.stop()
    finally:
        sender.kill()
    return Round(kind, sender.said, killed, back)


def settle(agent: AgentProcess, path: Path, protocol: str) -> None:
    """Return when the agent has made durable all that senders which are gone had sent."""
    kind = socket.SOCK_DGRAM if path.name == "datagram.sock" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as behind:
        behind.settimeout(60)
        behind.connect(str(path))
        if kind == socket.SOCK_DGRAM:
            behind.send(MARK)
            while int.from_bytes(fcntl.ioctl(behind, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
                time.sleep(0.01)  # the agent has not read it yet
        else:
            behind.shutdown(socket.SHUT_WR)
            while behind.recv(100):
                pass
    deadline = time.monotonic() + 60
    while not is_settled(agent.get("/metrics")[1], protocol):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_settled(metrics: str, protocol: str) -> bool:
    def value(name: str) -> str:
        return metrics.split(f'hf_agent_{name}{{protocol="{protocol}"}} ')[1].split("\n")[0]

    taken = value("received_records_total") == value("acked_records_total")
    return taken and float(value("open_connections")) == 0


def account(rounds: list[Round], rows: list[tuple[int, int]], *, knows: bool, again: int) -> None:
    """Every row of a round is one that was sent, in order; what is missing the kills explain.

    `knows`: whether a sender that is killed had sent all but the last of what it said. `again`:
    how many stretches may come twice at a kill of the agent.
    """
    assert {round for round, _ in rows} <= set(range(len(rounds)))
    for number, (kind, said, killed, back) in enumerate(rounds):
        numbers = [row for round, row in rows if round == number]
        steps = list(pairwise([-1, *numbers]))
        gaps = [(before + 1, after - 1) for before, after in steps if after > before + 1]
        repeated = sum(after <= before for before, after in steps)
        print(f"{kind}: {len(said)} said, {len(numbers)} stored, {gaps=}, {repeated=}")
        assert repeated <= (again if kind == "agent" else 0)
        if kind == "sender" and knows:
            assert len(numbers) in (len(said) - 1, len(said))
        if kind != "agent":
            assert not gaps, "what is missing is the last of what was sent"
            assert len(numbers) <= len(said)
            continue
        assert len(gaps) <= 1
        assert numbers[-1] == len(said) - 1
        for first, last in gaps:
            assert said[first].at <= back and said[last].at <= back, "sent after it was back"
            assert said[min(last + 2, len(said) - 1)].at >= killed, "sent long before it was killed"


def parsed(text: str) -> tuple[int, int]:
    """Round and number of a record, every byte of which is as it was sent."""
    round, number, filler = text.split(" ")
    assert filler == "x" * (int(number) % 97)
    return int(round), int(number)


SYSLOG = [
    pytest.param("stream.sock", id="stream"),
    pytest.param("datagram.sock", id="datagram"),
]


def rows_of_syslog(agent: AgentProcess, socket_name: str, head: str) -> list[tuple[int, int]]:
    lines = stored_lines(agent, socket_name.removesuffix(".sock"))
    rows = []
    for line in lines:
        if line != MARK:
            match = re.fullmatch(head + r"(\d+ \d+ x*)", line.decode())
            assert match is not None, line
            rows.append(parsed(match[1]))
    return rows


@pytest.mark.parametrize("name", SYSLOG)
def test_records_of_pythons_handler(agent: AgentProcess, name: str) -> None:
    rng, kinds = seeded()
    rounds = []
    for number, kind in enumerate(kinds):
        sender = Program(SYSLOG_HANDLER, agent.folder / name, number)
        rounds.append(one_round(agent, sender, kind, rng))
        settle(agent, agent.folder / name, "syslog")
    assert agent.stop() == 0, agent.log_text()
    account(rounds, rows_of_syslog(agent, name, "<14>"), knows=True, again=0)


@pytest.mark.skipif(shutil.which("logger") is None, reason="logger is not installed")
@pytest.mark.parametrize("name", SYSLOG)
def test_records_of_logger(agent: AgentProcess, name: str) -> None:
    rng, kinds = seeded()
    rounds = []
    for number, kind in enumerate(kinds):
        sender = Command(
            ["logger", "--socket", str(agent.folder / name), "-t", "web", "--rfc3164"],
            lambda at, round=number: f"{round} {at} " + "x" * (at % 97),  # type: ignore[misc]
        )
        rounds.append(one_round(agent, sender, kind, rng))
        settle(agent, agent.folder / name, "syslog")
    assert agent.stop() == 0, agent.log_text()
    head = r"<13>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ web: "
    account(rounds, rows_of_syslog(agent, name, head), knows=False, again=0)


def test_records_of_fluent_logger(agent: AgentProcess) -> None:
    rng, kinds = seeded()
    rounds = []
    for number, kind in enumerate(kinds):
        sender = Program(FLUENT_LOGGER, agent.forward_socket, number)
        rounds.append(one_round(agent, sender, kind, rng))
        settle(agent, agent.forward_socket, "forward")
    assert agent.stop() == 0, agent.log_text()
    rows = []
    for line in stored_lines(agent, "app.web"):
        round, number = parsed(json.loads(line)["log"])
        minutes, seconds = divmod(number, 60)
        time = f"1970-01-01T{minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}.000000000Z"
        text = f"{round} {number} " + "x" * (number % 97)
        assert line.decode() == f'{{"time":"{time}","log":"{text}"}}'
        rows.append((round, number))
    account(rounds, rows, knows=True, again=1)


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_lines_of_socat(agent: AgentProcess) -> None:
    """Each run's are a prefix of what it was fed, and all of it if the agent said so."""
    rng, kinds = seeded()
    runs = []
    for number, kind in enumerate([*kinds, "nobody"]):

        def line(at: int, run: int = number) -> str:
            return f"run-{run}" if at == 0 else f"{at} " + "x" * (at % 97)

        sender = Command(["socat", "-t60", "-", f"UNIX-CONNECT:{agent.lines_socket}"], line)
        many = rng.randrange(2, 1500)
        sender.wait_until(lambda sender=sender, many=many: len(sender.said) >= many)  # type: ignore[misc]
        if kind in ("sender", "BOTH"):
            sender.kill()
        if kind not in ("sender", "nobody"):
            agent.kill()
        if kind == "both":
            sender.kill()
        printed = sender.stop()
        if kind not in ("sender", "nobody"):
            agent.start()
        settle(agent, agent.lines_socket, "lines")
        assert printed == (b"ok\n" if kind == "nobody" else b"")
        runs.append((kind, [line(said.number).encode() for said in sender.said[1:]]))
    assert agent.stop() == 0, agent.log_text()
    for number, (kind, fed) in enumerate(runs):
        stored = stored_lines(agent, f"run-{number}")
        print(f"{kind}: {len(fed)} fed, {len(stored)} stored")
        assert stored == fed[: len(stored)]
        assert kind != "nobody" or stored == fed
