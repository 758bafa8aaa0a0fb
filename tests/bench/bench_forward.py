"""Protocol `forward` on a real agent process, next to what msgspec alone does in the same run.

    python tests/bench/bench_forward.py [--folder DIR] [--scale 1.0] [packed|mixed|single ...]

Prints ratios; asserts nothing. The sender is a process of its own that has its bytes ready. The
bare loop only decodes the same entries and encodes their records, on one core, and stores nothing.
On a machine that is busy otherwise the times say little: then look at the ratios of CPU time, which
is all of the agent's, its writer thread and the kernel's part included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import socket
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.agent_process import AgentProcess

RECORDS = 1000
RECORD_BYTES = 256
ROUNDS = 5
WINDOW = 64


def record(rng: random.Random, number: int) -> dict[str, Any]:
    """A record of about `RECORD_BYTES` in msgpack, of six fields, as a shipper of containers'."""
    fields: dict[str, Any] = {
        "log": f"GET /items/{number} took {rng.randrange(1000)} ms ",
        "stream": "stdout",
        "level": rng.choice(("info", "warning")),
        "pod": "web-7f9c-abcde",
        "status": 200 + number % 5,
        "duration": rng.random(),
    }
    missing = RECORD_BYTES - len(msgpack.packb(fields))
    fields["log"] += "x" * missing
    return fields


def mixed_record(rng: random.Random, number: int) -> dict[str, Any]:
    """The same size, but no two neighbours have the same keys."""
    fields = record(rng, number)
    fields[f"k{number % 7}"] = fields.pop("pod")
    return fields


def entry(rng: random.Random, number: int, fields: dict[str, Any]) -> bytes:
    """One entry with an EventTime."""
    nanos = rng.randrange(10**9)
    event_time = msgpack.ExtType(0, struct.pack(">II", 1_700_000_000 + number // 500, nanos))
    packed: bytes = msgpack.packb([event_time, fields])
    return packed


def bare_loops(stream: bytes, count: int) -> tuple[float, float, float]:
    """Seconds to decode the entries and to encode their records: one by one, and in bulk.

    The third is the CPU time of the first, in the mean and not at its fastest.
    """
    array = b"\xdd" + struct.pack(">I", count) + stream
    decode = msgspec.msgpack.Decoder().decode
    encoder = msgspec.json.Encoder()
    encode = encoder.encode

    def one_by_one() -> None:
        lines = []
        for _, fields in decode(array):
            lines.append(encode(fields))

    def in_bulk() -> None:
        encoder.encode_lines([entry[1] for entry in decode(array)])

    before, times = time.process_time(), 30
    loop = fastest(one_by_one, times)
    cpu = (time.process_time() - before) / times
    return loop, fastest(in_bulk), cpu


def fastest(work: Callable[[], None], times: int = 30) -> float:
    """Seconds of the fastest of some runs."""
    best = float("inf")
    for _ in range(times):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def send(path: Path, messages: list[bytes], window: int, acks: int, ready: Connection) -> None:
    """Send all messages with at most `window` unanswered; tell how long it took to the last ack."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        ready.send(None)
        ready.recv()
        answered = sent = rest = 0
        began = time.perf_counter()
        while answered < len(messages):
            burst = messages[sent : answered + window]
            if burst:
                connection.sendall(b"".join(burst))
                sent += len(burst)
            # Acknowledgements are all of the same size.
            got, rest = divmod(rest + len(connection.recv(1 << 16)), acks)
            answered += got
        ready.send(time.perf_counter() - began)


def run(
    folder: Path, name: str, messages: list[bytes], window: int, ack_bytes: int
) -> tuple[float, float]:
    """Seconds from the first byte sent to the last acknowledgement, and CPU, of a fresh agent."""
    agent = AgentProcess(
        folder / name, flush='interval = "1h"\nbytes = "512MiB"', wal='max_bytes = "16GiB"'
    ).start()
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.Process(
        target=send, args=(agent.forward_socket, messages, window, ack_bytes, theirs)
    )
    try:
        sender.start()
        ours.recv()
        before = psutil.Process(agent.pid).cpu_times()
        ours.send(None)
        seconds: float = ours.recv()
        after = psutil.Process(agent.pid).cpu_times()
        sender.join()
    finally:
        agent.close()
    user, system = after.user - before.user, after.system - before.system
    print(f"         {name}: {seconds:.2f} s, agent CPU {user:.2f} user {system:.2f} system")
    return seconds, user + system


def chunk_id(number: int) -> str:
    return f"{number:032x}"


ACK_BYTES = len(msgpack.packb({"ack": chunk_id(0)}))


def packed(
    folder: Path, scale: float, make: Callable[[random.Random, int], dict[str, Any]] = record
) -> None:
    """PackedForward, 1,000 records of 256 bytes a chunk, 16 chunks in flight."""
    rng = random.Random(1)
    name = "packed" if make is record else "mixed"
    stream = b"".join(entry(rng, number, make(rng, number)) for number in range(RECORDS))
    chunks = int(400 * scale)
    messages: list[bytes] = [
        msgpack.packb(["app.web", stream, {"chunk": chunk_id(number), "size": RECORDS}])
        for number in range(chunks)
    ]
    loops, bulks, rates, cpus = [], [], [], []
    for round_ in range(ROUNDS):
        loop, bulk, loop_cpu = bare_loops(stream, RECORDS)
        seconds, cpu = run(folder, f"{name}-{round_}", messages, 16, ACK_BYTES)
        loops.append(loop * chunks / seconds)
        bulks.append(bulk * chunks / seconds)
        rates.append(chunks * RECORDS / seconds)
        cpus.append(loop_cpu * chunks / cpu)
    print(
        f"{name:<8} {len(stream) / RECORDS:.0f} B an entry, {RECORDS} a chunk: "
        f"{statistics.median(rates):,.0f} durable records/s, "
        f"ratio to a bare loop {statistics.median(loops):.2f}, "
        f"to a bare bulk {statistics.median(bulks):.2f} (wanted: at least 0.6), "
        f"of CPU time {statistics.median(cpus):.2f}"
    )


def mixed(folder: Path, scale: float) -> None:
    """As `packed`, with records of changing keys."""
    packed(folder, scale, mixed_record)


def single(folder: Path, scale: float) -> None:
    """Chunks of one record, 64 in flight."""
    rng = random.Random(1)
    count = int(200_000 * scale)
    messages: list[bytes] = [
        msgpack.packb(
            [
                "app.web",
                entry(rng, number, record(rng, number)),
                {"chunk": chunk_id(number), "size": 1},
            ]
        )
        for number in range(count)
    ]
    runs = [
        run(folder, f"single-{round_}", messages, WINDOW, ACK_BYTES) for round_ in range(ROUNDS)
    ]
    rates = [count / seconds for seconds, _ in runs]
    cpu = statistics.median(cpu for _, cpu in runs) / count
    print(
        f"single   {count} chunks of one record, {WINDOW} in flight: "
        f"{statistics.median(rates):,.0f}/s (wanted: at least 60,000), "
        f"CPU {cpu * 1e6:.1f} us a chunk"
    )


BENCHES = {"packed": packed, "mixed": mixed, "single": single}


def main() -> None:
    """Run the benchmarks that were asked for, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.names or BENCHES:
            BENCHES[name](Path(folder), arguments.scale)


if __name__ == "__main__":
    main()
