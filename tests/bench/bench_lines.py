"""Protocol `lines` on a real agent process, next to a bare receiver of the same bytes.

    python tests/bench/bench_lines.py [--folder DIR] [--scale 1.0] [raw|json|multiline|cri ...]

Prints ratios; asserts nothing. The bare receiver is a process of its own that reads from a Unix
socket as much as it gets, writes it to a preallocated file, and syncs after each `BATCH` bytes (the
agent's largest batch) and at the end; that its buffer is reused, its file preallocated and nothing
is looked at makes it the fastest that one thread can be. Both are run in turns, each first as often
as the other, with one sender, and right after a file of as many bytes was written, synced and
removed: a virtual machine has to ask its host for memory that was free for some seconds, and
whoever comes first would pay for it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import socket
import statistics
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.agent_process import AgentProcess

MIB = 1 << 20
BATCH = 4 * MIB
READ = 256 << 10
ROUNDS = 6
BLOCK = 1 << 20
"""What the sender hands to the kernel at a time."""


def log_lines(nbytes: int) -> bytes:
    """About `nbytes` of lines of 40 to 200 bytes."""
    rng = random.Random(1)
    lines: list[bytes] = []
    size = 0
    while size < nbytes:
        line = b"2026-01-31T12:00:00.%06d INFO request %07d done %s\n" % (
            rng.randrange(10**6),
            len(lines),
            b"x" * rng.randrange(150),
        )
        lines.append(line)
        size += len(line)
    return b"".join(lines)


def traces(nbytes: int) -> bytes:
    """The same, in groups: one line in eight begins one."""
    lines = log_lines(nbytes).splitlines(keepends=True)
    return b"".join(
        line if index % 8 == 0 else b"    at " + line for index, line in enumerate(lines)
    )


def cri_lines(nbytes: int) -> bytes:
    """The same, as a container runtime writes them: one line in eight in two parts."""
    made = []
    for index, line in enumerate(log_lines(nbytes).splitlines(keepends=True)):
        head = b"2026-01-31T12:00:00.%09dZ %s " % (
            index,
            b"stderr" if index % 5 == 0 else b"stdout",
        )
        if index % 8 == 0:
            made.append(head + b"P " + line[:20] + b"\n" + head + b"F " + line[20:])
        else:
            made.append(head + b"F " + line)
    return b"".join(made)


def send(path: Path, block: bytes, blocks: int, ready: Connection) -> None:
    """Send it all, wait for the end of file; tell how long it took."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        ready.send(None)
        ready.recv()
        began = time.perf_counter()
        for _ in range(blocks):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
        ready.send(time.perf_counter() - began)


def bare_receiver(path: Path, file: Path, nbytes: int, ready: Connection) -> None:
    """Take one connection: read, write, sync; end of file when all is durable."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, nbytes)
    os.fsync(descriptor)
    room = memoryview(bytearray(READ))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(path))
        listening.listen()
        ready.send(None)
        connection, _ = listening.accept()
        with connection:
            unsynced = 0
            while count := connection.recv_into(room):
                os.write(descriptor, room[:count])
                unsynced += count
                if unsynced >= BATCH:
                    os.fdatasync(descriptor)
                    unsynced = 0
            os.fdatasync(descriptor)
    os.close(descriptor)


def level(folder: Path, block: bytes, blocks: int) -> None:
    """Leave as much memory free as what follows will put into the page cache, and a clean disk."""
    scratch = folder / "scratch.bin"
    with scratch.open("wb") as file:
        for _ in range(blocks):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    scratch.unlink()
    os.sync()


def timed(path: Path, block: bytes, blocks: int) -> float:
    """Seconds from the first byte sent to the end of file."""
    ours, theirs = multiprocessing.Pipe()
    sender = multiprocessing.Process(target=send, args=(path, block, blocks, theirs))
    sender.start()
    ours.recv()
    ours.send(None)
    seconds: float = ours.recv()
    sender.join()
    return seconds


def bare(folder: Path, block: bytes, blocks: int) -> float:
    """Seconds of the bare receiver."""
    path, file = folder / "bare.sock", folder / "bare.bin"
    ours, theirs = multiprocessing.Pipe()
    receiver = multiprocessing.Process(
        target=bare_receiver, args=(path, file, len(block) * blocks, theirs)
    )
    receiver.start()
    ours.recv()
    try:
        level(folder, block, blocks)
        return timed(path, block, blocks)
    finally:
        receiver.join()
        path.unlink()
        file.unlink()


def agent(folder: Path, options: str, block: bytes, blocks: int) -> tuple[float, float]:
    """Seconds of a fresh agent, and of its CPU."""
    process = AgentProcess(
        folder, flush='interval = "1h"\nbytes = "512MiB"', wal='max_bytes = "16GiB"', lines=options
    ).start()
    try:
        level(folder, block, blocks)
        before = psutil.Process(process.pid).cpu_times()
        seconds = timed(process.lines_socket, block, blocks)
        after = psutil.Process(process.pid).cpu_times()
    finally:
        process.close()
    return seconds, after.user - before.user + after.system - before.system


MODES = {
    "raw": ("", log_lines, " (wanted: at least 0.7)"),
    "json": ('format = "json"', log_lines, ""),
    "multiline": ("start_pattern = '\\d{4}-'", traces, ""),
    "cri": ("cri = true", cri_lines, ""),
    "cri-json": ('cri = true\nformat = "json"', cri_lines, ""),
}


def compare(folder: Path, name: str, scale: float) -> None:
    """One mode of the agent and the bare receiver, in turns."""
    options, make, wanted = MODES[name]
    block = make(BLOCK)
    blocks = max(1, int((384 if name == "raw" else 96) * scale))
    total = len(block) * blocks / MIB
    ratios, rates, cpus = [], [], []
    for round_ in range(ROUNDS):
        raw = 0.0 if round_ % 2 else bare(folder, block, blocks)
        seconds, cpu = agent(folder / f"{name}-{round_}", options, block, blocks)
        raw = raw or bare(folder, block, blocks)
        ratios.append(raw / seconds)
        rates.append(total / seconds)
        cpus.append(cpu / seconds)
    print(
        f"{name:<10} {total:.0f} MiB in lines of {len(block) / block.count(10):.0f} B: "
        f"{statistics.median(rates):,.0f} MiB/s durable, ratio to bare "
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}){wanted}; "
        f"agent CPU {statistics.median(cpus):.2f} cores"
    )


def main() -> None:
    """Run the benchmarks that were asked for, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("names", nargs="*", choices=[*MODES, []])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.names or MODES:
            compare(Path(folder), name, arguments.scale)


if __name__ == "__main__":
    main()
