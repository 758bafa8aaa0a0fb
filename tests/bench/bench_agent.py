"""Speed and memory of a real agent process, next to what the machine can do in the same run.

    python tests/bench/bench_agent.py [--folder DIR] [--scale 1.0] [bulk|small|latency|backlog ...]

Prints ratios; asserts nothing. Raw figures are plain pwrite + fdatasync of the same bytes on the
same file system, measured right before and after what they are compared with.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from hf_agent.client import Client, fresh_producer

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.agent_process import AgentProcess

MIB = 1 << 20
AWAY = {"endpoint_url": "http://127.0.0.1:9", "region": "us-east-1"}
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}


def raw_writes(folder: Path, size: int, count: int) -> list[float]:
    """Seconds of each pwrite + fdatasync of `size` bytes into a preallocated file."""
    path = folder / "raw.bin"
    data = os.urandom(size)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(descriptor, 0, size * count)
        os.fsync(descriptor)
        times = []
        for index in range(count):
            began = time.perf_counter()
            os.pwrite(descriptor, data, index * size)
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
        return times
    finally:
        os.close(descriptor)
        path.unlink()


def bulk(folder: Path, scale: float) -> None:
    """64 KiB appends, pipelined by one client."""
    count = int(8192 * scale)
    size = 64 << 10
    before = sum(raw_writes(folder, size, count))
    agent = AgentProcess(folder / "bulk", flush='interval = "1h"\nbytes = "64MiB"').start()
    data = os.urandom(size)
    try:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            began = time.perf_counter()
            for _ in range(count):
                client.append("bulk", data)
            client.wait_acknowledged()
            took = time.perf_counter() - began
    finally:
        agent.close()
    raw = (before + sum(raw_writes(folder, size, count))) / 2
    total = count * size / MIB
    print(
        f"bulk     {count} x 64 KiB: agent {total / took:.0f} MiB/s, raw {total / raw:.0f} MiB/s, "
        f"ratio {raw / took:.2f} (wanted: at least 0.5)"
    )


def _small_client(path: Path, count: int, start: object, done: object) -> None:
    data = b"r" * 256
    with Client(path, producer=fresh_producer()) as client:
        start.wait()  # type: ignore[attr-defined]
        for _ in range(count):
            client.append("small", data)
        client.wait_acknowledged()
    done.release()  # type: ignore[attr-defined]


def small(folder: Path, scale: float) -> None:
    """256-byte records, pipelined by four client processes."""
    each = int(500_000 * scale)
    agent = AgentProcess(folder / "small", flush='interval = "1h"\nbytes = "64MiB"').start()
    start, done = multiprocessing.Barrier(5), multiprocessing.Semaphore(0)
    clients = [
        multiprocessing.Process(target=_small_client, args=(agent.append_socket, each, start, done))
        for _ in range(4)
    ]
    try:
        for client in clients:
            client.start()
        start.wait()
        began = time.perf_counter()
        for _ in clients:
            done.acquire()
        took = time.perf_counter() - began
        cpu = psutil.Process(agent.pid).cpu_times()
    finally:
        agent.close()
        for client in clients:
            client.join()
    rate = 4 * each / took
    print(
        f"small    {4 * each} x 256 B from 4 clients: {rate:,.0f} durable records/s, "
        f"ratio {rate / 300_000:.2f} of 300,000/s; agent CPU {cpu.user + cpu.system:.2f} s "
        f"in {took:.2f} s"
    )


def latency(folder: Path, scale: float) -> None:
    """One small append at a time, in turns with raw writes."""
    count = int(300 * scale)
    agent = AgentProcess(folder / "latency", flush='interval = "1h"').start()
    data = b"l" * 256
    times = []
    raws = []
    try:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            for _ in range(10):
                raws += raw_writes(folder, 256, count)
                for _ in range(count):
                    began = time.perf_counter()
                    client.append("latency", data)
                    client.wait_acknowledged()
                    times.append(time.perf_counter() - began)
    finally:
        agent.close()
    raw = statistics.median(raws)
    p50 = statistics.median(times)
    p99 = statistics.quantiles(times, n=100)[98]
    print(
        f"latency  one 256 B append at a time: p50 {p50 * 1e6:.0f} µs, p99 {p99 * 1e6:.0f} µs, "
        f"raw p50 {raw * 1e6:.0f} µs, ratio {p50 / raw:.2f} (wanted: at most 3)"
    )


def backlog(folder: Path, scale: float) -> None:
    """Resident memory while the store is away, once in large and once in tiny appends."""
    total = int(2048 * MIB * scale)
    for name, size, streams in (("64 KiB", 64 << 10, ("a",)), ("200 B", 200, ("a", "b"))):
        agent = AgentProcess(
            folder / f"backlog-{size}",
            store_url="s3://nowhere/logs",
            s3=AWAY,
            env=CREDENTIALS,
            flush='interval = "1s"',
        ).start()
        process = psutil.Process(agent.pid)
        peak, stop = [0], threading.Event()

        def watch(
            process: psutil.Process = process,
            peak: list[int] = peak,
            stop: threading.Event = stop,
        ) -> None:
            while not stop.wait(0.05):
                peak[0] = max(peak[0], process.memory_info().rss)

        watcher = threading.Thread(target=watch)
        watcher.start()
        data = os.urandom(size)
        began = time.perf_counter()
        try:
            with Client(agent.append_socket, producer=fresh_producer()) as client:
                for index in range(total // size):
                    client.append(streams[index % len(streams)], data)
                client.wait_acknowledged()
            took = time.perf_counter() - began
            stop.wait(2)
        finally:
            stop.set()
            watcher.join()
            agent.close()
            shutil.rmtree(folder / f"backlog-{size}")
        print(
            f"backlog  {total / MIB:.0f} MiB in {name} appends, store away: peak RSS "
            f"{peak[0] / MIB:.0f} MiB (wanted: under 160), {total / MIB / took:.0f} MiB/s"
        )


BENCHES = {"bulk": bulk, "small": small, "latency": latency, "backlog": backlog}


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
