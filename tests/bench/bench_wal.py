"""The write-ahead log against raw pwrite + fdatasync of the same bytes, in one run, as ratios.

A script, not a test: `PYTHONPATH=agent python tests/bench/bench_wal.py [DIRECTORY]`. Figures of one
run are comparable with each other only; the directory must be on a real disk.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_agent.clock import SystemClock, system_random
from hf_agent.wal import Wal, WalConfig

FILE_BYTES = 64 << 20
ROUNDS = 3


@contextmanager
def opened(directory: Path, **limits: int) -> Iterator[tuple[Wal, threading.Semaphore]]:
    """A started log in a fresh directory, and a semaphore released with each durable batch."""
    durable = threading.Semaphore(0)
    with tempfile.TemporaryDirectory(dir=directory) as name:
        wal = Wal.open(
            Path(name) / "wal", WalConfig(**limits), clock=SystemClock(), rng=system_random()
        )
        wal.start(on_durable=lambda _: durable.release(), on_state=lambda _: None)
        try:
            yield wal, durable
        finally:
            wal.close()


@contextmanager
def raw_file(directory: Path, size: int) -> Iterator[int]:
    """A preallocated file, as the log has them."""
    path = directory / "raw"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(fd, 0, size)
        os.fsync(fd)
        yield fd
    finally:
        os.close(fd)
        path.unlink()


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)] * 1e6


def append_cost(directory: Path, count: int = 40_000) -> float:
    """Microseconds that one append of 256 bytes takes in the calling thread, best of rounds."""
    data = bytes(256)
    best = float("inf")
    for _ in range(ROUNDS):
        # No writer thread: the cost of the call alone.
        with tempfile.TemporaryDirectory(dir=directory) as name:
            wal = Wal.open(
                Path(name) / "wal", WalConfig(), clock=SystemClock(), rng=system_random()
            )
            append = wal.append
            started = time.perf_counter()
            for _ in range(count):
                append("stream", data)
            best = min(best, time.perf_counter() - started)
            wal.close()
    return best / count * 1e6


def latency(directory: Path, count: int = 1500) -> None:
    """One append of 300 bytes at a time, next to pwrite + fdatasync of as many, interleaved."""
    data = bytes(300)
    raw: list[float] = []
    logged: list[float] = []
    with opened(directory) as (wal, durable), raw_file(directory, 16 << 20) as fd:
        for index in range(count):
            started = time.perf_counter()
            os.pwrite(fd, data, index * 352)
            os.fdatasync(fd)
            raw.append(time.perf_counter() - started)
            started = time.perf_counter()
            wal.append("stream", data)
            durable.acquire()
            logged.append(time.perf_counter() - started)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        bare, log = percentile(raw, share), percentile(logged, share)
        print(
            f"append -> durable {name:>4}: {log:8.1f} us, raw {bare:8.1f} us, {log / bare:5.2f} x"
        )


def throughput(directory: Path, size: int, total: int, streams: int) -> None:
    """Pipelined appends against the same bytes by pwrite + fdatasync in chunks of 4 MiB."""
    ratios = []
    rates = []
    for _ in range(ROUNDS):
        data = os.urandom(size)
        chunk = os.urandom(4 << 20)
        with raw_file(directory, total) as fd:
            started = time.perf_counter()
            for offset in range(0, total, len(chunk)):
                os.pwrite(fd, chunk, offset)
                os.fdatasync(fd)
            raw = time.perf_counter() - started
        count = total // size
        names = [f"stream-{index}" for index in range(streams)]
        with opened(directory) as (wal, durable):
            started = time.perf_counter()
            for index in range(count):
                if not wal.accepts():
                    while not wal.accepts():
                        durable.acquire()
                wal.append(names[index % streams], data)
            last = wal.batch
            while wal.durable_batch < last and wal.pending_bytes:
                durable.acquire()
            log = time.perf_counter() - started
        ratios.append(raw / log)
        rates.append(count / log)
    print(
        f"{size:>6} B x {streams} streams: {statistics.median(rates):>10,.0f} appends/s, "
        f"{statistics.median(rates) * size / 1e6:>7,.0f} MB/s, "
        f"{statistics.median(ratios):5.2f} x raw"
    )


def main() -> None:
    directory = Path(sys.argv[1]) if len(sys.argv) > 1 else Path.cwd()
    print(f"append() of 256 B: {append_cost(directory):.2f} us in the caller")
    latency(directory)
    throughput(directory, 256, 96 << 20, 4)
    throughput(directory, 64 << 10, 192 << 20, 1)
    throughput(directory, 64 << 10, 192 << 20, 4)


if __name__ == "__main__":
    main()
