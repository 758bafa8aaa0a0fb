"""Programs that speak syslog, against a real agent: what they send arrives, and what kills cost."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from support.agent_process import AgentProcess
from support.containers import read_container
from support.syslog_daemons import DAEMONS, TABLES, Daemon

TEXT = "grün, \\n and <13>: 5 x"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentProcess]:
    process = AgentProcess(tmp_path / "a", syslog=TABLES, flush='interval = "100ms"').start()
    yield process
    process.close()


def stored(agent: AgentProcess, stream: str) -> list[bytes]:
    """The lines in the store once the agent has stopped."""
    assert agent.stop() == 0, agent.log_text()
    content = asyncio.run(read_container(agent, f"node-1/{stream}"))
    return content.split(b"\n")[:-1]


LOGGER = pytest.mark.skipif(shutil.which("logger") is None, reason="logger is not installed")
TIME_5424 = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d"
TIME_3164 = rb"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"


FORMS = [
    (["--rfc5424"], rb"<129>1 " + TIME_5424 + rb" \S+ web - - \[timeQuality [^]]*\] "),
    (["--rfc3164"], rb"<129>" + TIME_3164 + rb" \S+ web: "),
    ([], rb"<129>" + TIME_3164 + rb" web: "),
]
COUNTED = [([*options, "--octet-count"], head) for options, head in FORMS[:2]]


@LOGGER
@pytest.mark.parametrize(("kind", "forms"), [("stream", FORMS + COUNTED), ("datagram", FORMS)])
def test_logger_of_util_linux(
    agent: AgentProcess, kind: str, forms: list[tuple[list[str], bytes]]
) -> None:
    command = ["logger", "--socket", f"{agent.folder}/{kind}.sock", "-p", "local0.alert"]
    for options, _ in forms:
        subprocess.run([*command, "-t", "web", *options, TEXT], check=True, timeout=60)
    lines = stored(agent, kind)
    assert len(lines) == len(forms)
    for line, (_, head) in zip(lines, forms, strict=True):
        assert re.fullmatch(head + re.escape(TEXT.encode()), line), line


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_the_handler_of_python(agent: AgentProcess, kind: str) -> None:
    handler = logging.handlers.SysLogHandler(
        str(agent.folder / f"{kind}.sock"),
        socktype=socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM,
    )
    handler.ident = "web: "
    for number in range(500):
        handler.handle(logging.LogRecord("x", logging.ERROR, "", 0, f"{number} {TEXT}", None, None))
    handler.close()
    expected = [f"<11>web: {number} {TEXT}".encode() for number in range(500)]
    assert stored(agent, kind) == expected


def as_dev_log(path: Path, *command: str) -> list[str]:
    """Runs a command where `/dev/log` is this socket, in a mount namespace of its own."""
    script = 'mount -t tmpfs none /dev && ln -s "$0" /dev/log && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", script, str(path), *command]


def may_have_dev_log() -> bool:
    """Whether this user may make one."""
    try:
        return not subprocess.run(as_dev_log(Path("/"), "true"), capture_output=True).returncode
    except FileNotFoundError:
        return False


DEV_LOG = pytest.mark.skipif(not may_have_dev_log(), reason="no mount namespaces for this user")
SYSLOG = """
import syslog
syslog.openlog("web", 0, syslog.LOG_LOCAL0)
for number in range(500):
    syslog.syslog(syslog.LOG_ALERT, f"{number} grün, \\\\n and <13>: 5 x")
"""
"""For Python: `syslog(3)` of the C library, which knows no other socket than `/dev/log`."""


@DEV_LOG
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_the_c_librarys_syslog_writes_to_the_socket_as_dev_log(
    agent: AgentProcess, kind: str
) -> None:
    path = agent.folder / f"{kind}.sock"
    subprocess.run(as_dev_log(path, sys.executable, "-c", SYSLOG), check=True, timeout=60)
    if shutil.which("logger"):
        subprocess.run(
            as_dev_log(path, "logger", "-p", "local0.alert", "-t", "web", f"500 {TEXT}"),
            check=True,
            timeout=60,
        )
    lines = stored(agent, kind)
    assert len(lines) == (501 if shutil.which("logger") else 500)
    for number, line in enumerate(lines):
        pattern = rb"<129>" + TIME_3164 + rb" web: " + re.escape(f"{number} {TEXT}".encode())
        assert re.fullmatch(pattern, line), line


@pytest.mark.skipif(shutil.which("socat") is None, reason="socat is not installed")
def test_socat_is_told_by_the_end_of_file(agent: AgentProcess) -> None:
    wire = b"".join(b"<14>socat: %d\n" % number for number in range(2000)) + b"6 <14>ab"
    subprocess.run(
        ["socat", "-t60", "-", f"UNIX-CONNECT:{agent.folder}/stream.sock"],
        input=wire,
        check=True,
        timeout=60,
    )
    agent.kill()
    agent.start()
    assert stored(agent, "stream") == wire.replace(b"6 <", b"<").split(b"\n")


def taken(agent: AgentProcess) -> float:
    """How many records this run of the agent has made durable."""
    name = 'hf_agent_acked_records_total{protocol="syslog"} '
    return float(agent.get("/metrics")[1].split(name)[1].split()[0])


def wait_for(agent: AgentProcess, number: float) -> None:
    """Return when the agent has taken as many records."""
    deadline = time.monotonic() + 60
    while taken(agent) < number:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("make", "stream"), DAEMONS)
def test_daemons_relay_every_message(
    agent: AgentProcess, tmp_path: Path, make: Callable[..., Daemon], stream: str
) -> None:
    daemon = make(agent, tmp_path)
    try:
        daemon.send(0, 1000)
        wait_for(agent, 1000)
        lines = stored(agent, stream)
    finally:
        daemon.close()
    for number, line in enumerate(lines):
        pattern = rb"<14>Oct 11 22:14:15 \S+ web\[1\]: number %06d\." % number
        assert re.fullmatch(pattern, line), line
    assert len(lines) == 1000


def numbers(lines: list[bytes]) -> list[int]:
    """What the senders numbered, in the order that it is stored in."""
    return [int(line.rstrip(b".").rsplit(b" ", 1)[1]) for line in lines]


@pytest.mark.parametrize(("make", "stream"), DAEMONS)
def test_daemons_go_on_when_the_agent_is_killed_and_lose_no_more_than_they_must(
    agent: AgentProcess, tmp_path: Path, make: Callable[..., Daemon], stream: str
) -> None:
    """They get no acknowledgements, so what was under way at a kill is lost, or comes twice."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    daemon = make(agent, tmp_path)
    kills, first = 3, 0
    try:
        for _ in range(kills):
            behind = first + rng.randrange(200, 2000)
            daemon.send(first, behind)
            agent.kill()
            agent.start()
            first = behind
            # Messages until the daemon has found the agent again.
            deadline = time.monotonic() + 60
            while not taken(agent):
                assert time.monotonic() < deadline
                daemon.send(first, first + 1)
                first += 1
                time.sleep(0.05)
        before = taken(agent)
        daemon.send(first, first + 500)
        wait_for(agent, before + 500)
        rows = numbers(stored(agent, stream))
    finally:
        daemon.close()
    steps = [after - before for before, after in pairwise([-1, *rows])]
    lost = [step - 1 for step in steps if step > 1]
    again = [step for step in steps if step < 1]
    print(f"lost {lost}, came again {again}")
    assert rows[-500:] == list(range(first, first + 500))
    assert len(lost) <= 2 * kills and len(again) <= kills


SENDER = """
import logging, logging.handlers, socket, sys
kind = socket.SOCK_STREAM if sys.argv[2] == "stream" else socket.SOCK_DGRAM
handler = logging.handlers.SysLogHandler(sys.argv[1], socktype=kind)
for number in range(1_000_000):
    handler.handle(logging.LogRecord("x", logging.INFO, "", 0, f"number {number}.", None, None))
    print(number, flush=True)
"""


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_of_a_sender_that_is_killed_all_that_it_sent_is_kept(
    agent: AgentProcess, kind: str
) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed: {seed}")
    rng = random.Random(seed)
    said = []
    for _ in range(3):
        command = [sys.executable, "-c", SENDER, f"{agent.folder}/{kind}.sock", kind]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(rng.randrange(1, 3000)):
            last = int(process.stdout.readline())
        process.kill()
        rest = [line for line in process.stdout.read().split(b"\n")[:-1] if line]
        process.wait()
        process.stdout.close()
        said.append(int(rest[-1]) if rest else last)
    rows = numbers(stored(agent, kind))
    for last in said:
        # It may have sent one more than it came to say.
        run = rows[: last + 2] if rows[last + 1 : last + 2] == [last + 1] else rows[: last + 1]
        assert run == list(range(len(run)))
        del rows[: len(run)]
    assert rows == []
