"""A flood does not starve a polite client: counted in bytes of the flood, not in time.

Real sockets on the agent's own loop (uvloop), with flooders in processes of their own. The polite
client writes from the loop's thread, so it is known how much of the flood had been taken when
its append arrived, and how much when that append was taken.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from hf_agent.clock import SystemClock
from hf_agent.config import Syslog
from hf_agent.ingest import syslog_datagrams
from hf_agent.ingest.budget import ReceiveBudget
from hf_agent.ingest.listener import Listener
from hf_agent.ingest.producers import ProducerRegistry
from hf_agent.ingest.receive_buffer import LARGEST, SMALLEST
from hf_agent.metrics import Metrics
from support.agent_process import AgentProcess
from support.fake_sink import FakeSink
from support.forward_wire import packed
from support.listening import SocketConfig
from support.wire import frame

FLOODERS = 50
POLITE_APPENDS = 10

FLOOD = """
import selectors, socket, sys
path, number, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
greeting, _, rest = open(file, 'rb').read().partition(b'--')
selector = selectors.DefaultSelector()
for _ in range(number):
    client = socket.socket(socket.AF_UNIX)
    client.connect(path)
    client.sendall(greeting)
    client.setblocking(False)
    selector.register(client, selectors.EVENT_WRITE, memoryview(b''))
while True:
    for key, _ in selector.select():
        left = key.data or memoryview(rest)
        try:
            left = left[key.fileobj.send(left):]
        except BlockingIOError:
            pass
        except OSError:
            sys.exit()
        selector.modify(key.fileobj, selectors.EVENT_WRITE, left)
"""


class CountingSink(FakeSink):
    """Keeps no payload; counts what was taken for each stream."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, int] = {}
        self.at_polite = 0
        """Bytes of the flood that had been taken when the newest polite append was."""
        self.polite_taken = asyncio.Event()

    def append(self, stream, data, **more):  # type: ignore[no-untyped-def]
        self.bytes[stream] = self.bytes.get(stream, 0) + len(data)
        receipt = super().append(stream, data, **more)
        self.taken.clear()
        if stream == "polite":
            self.at_polite = self.bytes.get("flood", 0)
            self.polite_taken.set()
        return receipt


def messages(protocol: str) -> tuple[bytes, bytes]:
    """A flooder's greeting, and what it sends again and again."""
    if protocol == "lines":
        return b"flood\n", b"x" * 999 + b"\n"
    return b"", packed("flood", [1, {"m": "x" * 900}])


@pytest.mark.parametrize("same_socket", [True, False], ids=["same-socket", "another-socket"])
@pytest.mark.parametrize("protocol", ["lines", "forward"])
def test_at_most_two_rounds_of_a_flood_are_taken_before_a_polite_append(
    tmp_path: Path, protocol: str, same_socket: bool
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        worst = runner.run(_flooded(tmp_path, protocol, same_socket=same_socket))
    assert worst <= 2 * FLOODERS * LARGEST


async def _flooded(folder: Path, protocol: str, *, same_socket: bool) -> int:
    sink, metrics, clock = CountingSink(), Metrics(), SystemClock()
    budget = ReceiveBudget(64 << 20, metrics, clock)
    stream = "{first_line}" if protocol == "lines" else ""
    configs = [
        SocketConfig(str(folder / f"{name}.sock"), protocol=protocol, stream=stream)
        for name in ("flood", "polite")
    ]
    listeners = [
        Listener(config, sink, metrics, budget, clock, producers=ProducerRegistry(), node="node-1")
        for config in configs
    ]
    for listener in listeners:
        await listener.start()
    greeting, message = messages(protocol)
    payload = folder / "payload"
    payload.write_bytes(greeting + b"--" + message * (400_000 // len(message)))
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD, configs[0].path, str(FLOODERS), str(payload)]
    )
    polite = socket.socket(socket.AF_UNIX)
    try:
        async with asyncio.timeout(60):
            while listeners[0].connections < FLOODERS or sink.bytes.get("flood", 0) < 50 << 20:
                await asyncio.sleep(0.01)
            polite.connect(configs[0 if same_socket else 1].path)
            if protocol == "lines":
                polite.sendall(b"polite\n")
            one = b"line\n" if protocol == "lines" else packed("polite", [1, {"m": "x"}])
            worst = 0
            for _ in range(POLITE_APPENDS):
                at_arrival = sink.bytes["flood"]
                sink.polite_taken.clear()
                polite.sendall(one)
                await sink.polite_taken.wait()
                worst = max(worst, sink.at_polite - at_arrival)
            print(f"worst: {worst / (FLOODERS * LARGEST):.2f} rounds of {FLOODERS} buffers")
    finally:
        flood.kill()
        flood.wait()
        polite.close()
        for listener in listeners:
            await listener.close()
        await budget.close()
    return worst


def test_of_datagrams_that_wait_one_turns_are_read_before_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel queues fewer of them than a turn's 256, so the turn is made shorter here."""
    turn = 4
    monkeypatch.setattr(syslog_datagrams, "_DATAGRAMS_A_TURN", turn)
    flooded = SocketConfig(
        str(tmp_path / "flood.sock"),
        protocol="syslog",
        stream="flood",
        syslog=Syslog(socket="datagram"),
    )
    waiting_one = SocketConfig(str(tmp_path / "polite.sock"), protocol="lines", stream="polite")
    message = b"<14>" + b"x" * 95

    async def scenario() -> tuple[int, int]:
        sink, metrics, clock = CountingSink(), Metrics(), SystemClock()
        budget = ReceiveBudget(64 << 20, metrics, clock)
        listeners = [
            Listener(
                config, sink, metrics, budget, clock, producers=ProducerRegistry(), node="node-1"
            )
            for config in (flooded, waiting_one)
        ]
        for listener in listeners:
            await listener.start()
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood,
            socket.socket(socket.AF_UNIX) as polite,
        ):
            flood.connect(flooded.path)
            polite.connect(waiting_one.path)
            async with asyncio.timeout(20):
                while listeners[1].connections < 1:
                    await asyncio.sleep(0.001)
            # From here on the loop stands still until all that is sent waits in the sockets.
            flood.setblocking(False)
            sent = 0
            try:
                while True:
                    flood.send(message)
                    sent += 1
            except BlockingIOError:
                pass
            polite.sendall(b"line\n")
            async with asyncio.timeout(20):
                await sink.polite_taken.wait()
                at_polite = sink.at_polite
                while sink.bytes["flood"] < sent * (len(message) + 1):
                    await asyncio.sleep(0.001)
        for listener in listeners:
            await listener.close()
        await budget.close()
        return sent, at_polite // (len(message) + 1)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sent, before = runner.run(scenario())
    assert sent > turn, "or else nothing is shown"
    assert before <= turn


def test_a_connection_reads_one_buffer_a_turn_however_much_waits_in_its_socket(
    tmp_path: Path,
) -> None:
    """The loop would go on with one connection while each read fills its buffer."""

    async def scenario() -> int:
        sink, metrics, clock = CountingSink(), Metrics(), SystemClock()
        budget = ReceiveBudget(64 << 20, metrics, clock)
        config = SocketConfig(str(tmp_path / "agent.sock"))
        producers = ProducerRegistry()
        listener = Listener(
            config, sink, metrics, budget, clock, producers=producers, node="node-1"
        )
        await listener.start()
        clients = []
        for _ in range(6):
            client = socket.socket(socket.AF_UNIX)
            client.connect(config.path)
            client.sendall(frame("hello", 1, {}))
            clients.append(client)
        async with asyncio.timeout(20):
            while not all([await _answered(client) for client in clients]):
                pass
        # From here on the loop stands still until all that is sent waits in the sockets.
        for client in clients[:-1]:
            client.setblocking(False)
            client.send(b"".join(frame("append", id, "flood", b"x" * 1000) for id in range(1, 101)))
        clients[-1].sendall(frame("append", 1, "polite", b"x"))
        async with asyncio.timeout(20):
            await sink.polite_taken.wait()
        taken = sink.at_polite
        for client in clients:
            client.close()
        await listener.close()
        await budget.close()
        return taken

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) <= 5 * SMALLEST


async def _answered(client: socket.socket) -> bool:
    await asyncio.sleep(0.001)
    try:
        return bool(client.recv(1000, socket.MSG_DONTWAIT | socket.MSG_PEEK))
    except BlockingIOError:
        return False


@pytest.mark.parametrize("same_socket", [True, False], ids=["same-socket", "another-socket"])
def test_an_agent_answers_a_polite_client_within_rounds_of_a_flood(
    tmp_path: Path, same_socket: bool
) -> None:
    """A whole agent, with its log: what it takes of the flood for each polite acknowledgement."""
    agent = AgentProcess(tmp_path / "agent", lines_stream="{first_line}").start()
    greeting, message = messages("lines")
    payload = tmp_path / "payload"
    payload.write_bytes(greeting + b"--" + message * 400)
    flood = subprocess.Popen(
        [sys.executable, "-c", FLOOD, str(agent.lines_socket), str(FLOODERS), str(payload)]
    )
    try:
        while _flood_bytes(agent) < 10 << 20:
            pass
        before = _flood_bytes(agent)
        for id in range(1, POLITE_APPENDS + 1):
            with socket.socket(socket.AF_UNIX) as polite:
                polite.settimeout(60)
                if same_socket:
                    polite.connect(str(agent.lines_socket))
                    polite.sendall(b"polite\nline\n")
                    polite.shutdown(socket.SHUT_WR)
                    assert polite.recv(1000) == b"", "acknowledged"
                else:
                    polite.connect(str(agent.append_socket))
                    polite.sendall(frame("hello", 1, {}) + frame("append", id, "polite", b"x"))
                    answer = b""
                    while b"\xa3ack" not in answer:
                        answer += polite.recv(1000)
        rounds = (_flood_bytes(agent) - before) / POLITE_APPENDS / (FLOODERS * LARGEST)
        print(f"{rounds:.2f} rounds of the flood for each polite append")
        # Connecting, reading, the sync and the answer are a turn each, some of them two.
        assert rounds <= 6
    finally:
        flood.kill()
        flood.wait()
        agent.close()


def _flood_bytes(agent: AgentProcess) -> float:
    _, text = agent.get("/metrics")
    (line,) = re.findall(r'hf_agent_received_bytes_total\{protocol="lines"\} (\S+)', text)
    return float(line)
