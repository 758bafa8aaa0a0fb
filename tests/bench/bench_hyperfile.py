"""Files in containers next to plain requests of the same bytes against the same server, as ratios.

    python tests/bench/bench_hyperfile.py [read write random open map …]
        [--server minio|moto|directory] [--folder DIR] [--rounds 5] [--mib 512] [--in-flight 4]

    read    a file read from its start to its end, next to ranged GETs of the same size, as many
            of them in flight
    write   a file written from its start to its end, next to PUTs of objects of the same sizes,
            as many of them in flight
    random  4 KiB at random offsets with a warm map, next to ranged GETs of 4 KiB and of a block
    open    opening a sparse file of 100 GiB with a million mapped blocks: requests and memory
    map     the block map of a file that n blocks are appended to, for growing n

`read` and `write` go through the blocking file, as `open(uri)` gives it; the plain side uses the
client library of the store. Both have connected beforehand. Sides take turns in changing order, in
this process; figures of one run are comparable with each other only. Prints ratios and asserts
nothing; what can be counted is also tested, in `tests/hyperfile`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
import tracemalloc
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.sites import Site, running_site
from hf_agent import hyperfile
from hf_agent.clock import SystemClock, system_random
from hf_agent.hyperfile import FileOptions, HyperFile
from hf_agent.hyperfile.file.map_changes import MapChanges
from hf_agent.hyperfile.file.ranges import RangeSet
from support.map_in_memory import Map
from support.sparse_container import CountedStore, put_sparse_container

MIB = 1 << 20
GIB = 1 << 30
WANTED = 0.8
KEY = "bench"
REQUEST_BYTES = 8 * MIB
READ_BYTES = 1 * MIB
"""Of one call of the file's `readinto` or `write`."""


class Turn(NamedTuple):
    """What a side took."""

    seconds: float
    cpu: float
    """Seconds of this process, all its threads."""


def timed(work: Callable[[], object]) -> Turn:
    """How long it takes."""
    began, cpu = time.perf_counter(), time.process_time()
    work()
    return Turn(time.perf_counter() - began, time.process_time() - cpu)


class Sides:
    """Two sides that take turns; the first round of each warms up."""

    def __init__(self, name: str, nbytes: int) -> None:
        self.name = name
        self.nbytes = nbytes
        self.ours: list[Turn] = []
        self.plain: list[Turn] = []

    def compare(self, rounds: int, ours: Callable[[], Turn], plain: Callable[[], Turn]) -> None:
        """Run both `rounds` times and once more."""
        for number in range(rounds + 1):
            if number % 2:
                other, own = plain(), ours()
            else:
                own, other = ours(), plain()
            if not number:
                continue
            self.ours.append(own)
            self.plain.append(other)
            print(
                f"  round {number}: file {self._rate([own]):.0f} MiB/s, "
                f"plain {self._rate([other]):.0f} MiB/s, ratio {other.seconds / own.seconds:.2f}; "
                f"CPU {own.cpu:.2f} s and {other.cpu:.2f} s",
                flush=True,
            )

    def _rate(self, turns: list[Turn]) -> float:
        """Median, in MiB per second."""
        return self.nbytes / MIB / statistics.median(turn.seconds for turn in turns)

    def report(self, what: str) -> None:
        """Print the medians."""
        pairs = list(zip(self.ours, self.plain, strict=True))
        ratio = statistics.median(plain.seconds / ours.seconds for ours, plain in pairs)
        cpu = statistics.median(plain.cpu / ours.cpu for ours, plain in pairs)
        print(
            f"{self.name:8} {self.nbytes / MIB:.0f} MiB, {what}, {len(pairs)} rounds: file "
            f"{self._rate(self.ours):.0f} MiB/s, plain {self._rate(self.plain):.0f} MiB/s, median "
            f"ratio {ratio:.2f} (wanted: at least {WANTED}), of CPU time {cpu:.2f}; "
            f"load {os.getloadavg()[0]:.1f}"
        )


async def side_by_side(
    call: Callable[[int], Awaitable[object]], count: int, in_flight: int
) -> None:
    """`call` of 0 … count-1, so many at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            await call(number)

    await asyncio.gather(*(worker() for _ in range(in_flight)))


# -- sequential -----------------------------------------------------------------------------------


@contextmanager
def connected(site: Site) -> Iterator[None]:
    """Files that are opened meanwhile share connections that are there already, as the plain side
    does."""
    with hyperfile.open(site.uri("another"), "w", **site.file_options) as file:
        file.write(b"connects")
        file.flush()
        yield


def write_file(site: Site, nbytes: int, pool: memoryview) -> None:
    """Write the container from its start to its end."""
    with hyperfile.open(site.uri(KEY), "w", **site.file_options) as file:
        at = 0
        while at < nbytes:
            start = at % (len(pool) - READ_BYTES)
            at += file.write(pool[start : start + min(READ_BYTES, nbytes - at)])


def bench_write(site: Site, nbytes: int, rounds: int, in_flight: int) -> None:
    """Sequential writing."""
    pool = memoryview(os.urandom(64 * MIB))
    sizes: list[int] = []

    def ours() -> Turn:
        turn = timed(lambda: write_file(site, nbytes, pool))
        sizes[:] = [size for _, size in site.objects(KEY)]
        site.clear(f"{KEY}/")
        return turn

    def plain() -> Turn:
        bodies = [bytes(pool[64 * at : 64 * at + size]) for at, size in enumerate(sizes)]
        turn = timed(
            lambda: site.run(
                side_by_side(
                    lambda at: site.plain_put(f"plain/{at}", bodies[at]), len(bodies), in_flight
                )
            )
        )
        site.clear("plain/")
        return turn

    sides = Sides("write", nbytes)
    with connected(site):
        sides.compare(rounds, ours, plain)
    largest, count = max(sizes), len(sizes)
    sides.report(f"{count} objects of up to {largest / MIB:.1f} MiB, {in_flight} in flight")


def bench_read(site: Site, nbytes: int, rounds: int, in_flight: int) -> None:
    """Sequential reading."""
    write_file(site, nbytes, memoryview(os.urandom(64 * MIB)))
    request_bytes = REQUEST_BYTES
    objects = site.objects(KEY)
    ranges = [
        (key, start, min(start + request_bytes, size))
        for key, size in objects
        for start in range(0, size, request_bytes)
    ]
    buffer = bytearray(READ_BYTES)

    def read_all() -> None:
        with hyperfile.open(
            site.uri(KEY), read_ahead_bytes=in_flight * request_bytes, **site.file_options
        ) as file:
            total = 0
            while count := file.readinto(buffer):
                total += count
            assert total == nbytes

    def plain() -> Turn:
        return timed(
            lambda: site.run(
                side_by_side(lambda at: site.plain_get(*ranges[at]), len(ranges), in_flight)
            )
        )

    sides = Sides("read", nbytes)
    with connected(site):
        sides.compare(rounds, lambda: timed(read_all), plain)
    sides.report(f"ranges of {request_bytes / MIB:.0f} MiB, {in_flight} in flight")
    site.clear(f"{KEY}/")


# -- random ---------------------------------------------------------------------------------------


def bench_random(site: Site, nbytes: int, rounds: int) -> None:
    """4 KiB at random offsets, one behind the other."""
    write_file(site, nbytes, memoryview(os.urandom(64 * MIB)))
    reads, piece = 500, 4096
    key, size = max(site.objects(KEY), key=lambda each: each[1])
    rng = random.Random(1)
    gets = 0

    async def ours() -> float:
        nonlocal gets
        store = CountedStore(site.store())
        clock = SystemClock()
        async with await HyperFile.open(store, KEY, clock=clock, rng=system_random()) as file:
            await file.pread(0, nbytes)  # every node and header
            store.clear()
            began = time.perf_counter()
            for _ in range(reads):
                await file.pread(rng.randrange(nbytes // piece) * piece, piece)
            seconds = time.perf_counter() - began
        gets = store.requests
        await store.close()
        return seconds

    async def plain(length: int) -> float:
        began = time.perf_counter()
        for _ in range(reads):
            start = rng.randrange((size - length) // piece) * piece
            await site.plain_get(key, start, start + length)
        return time.perf_counter() - began

    block = FileOptions().block_size
    figures: dict[str, list[float]] = {"file": [], "4 KiB": [], "block": []}
    for number in range(rounds + 1):
        turns: list[tuple[str, Callable[[], Coroutine[Any, Any, float]]]] = [
            ("file", ours),
            ("4 KiB", lambda: plain(piece)),
            ("block", lambda: plain(block)),
        ]
        for name, turn in turns if number % 2 else reversed(turns):
            seconds = site.run(turn())
            if number:
                figures[name].append(seconds / reads * 1e6)
    medians = {name: statistics.median(each) for name, each in figures.items()}
    print(
        f"random   {reads} reads of 4 KiB, one at a time, {rounds} rounds: {gets / reads:.2f} "
        f"requests a read; file {medians['file']:.0f} µs, plain GET of 4 KiB "
        f"{medians['4 KiB']:.0f} µs, of a block ({block >> 10} KiB, as checksums need it) "
        f"{medians['block']:.0f} µs; load {os.getloadavg()[0]:.1f}"
    )
    site.clear(f"{KEY}/")


# -- large maps -----------------------------------------------------------------------------------


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """What Python objects took up at most since then, in MiB."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1] / MIB
    finally:
        tracemalloc.stop()


def bench_open(site: Site, rounds: int) -> None:
    """100 GiB, a million blocks that lie in it anywhere."""
    blocks, size = 1_000_000, 100 * GIB

    async def once(first: bool) -> tuple[float, float, int, int, float]:
        store = CountedStore(site.store())
        if first:
            await put_sparse_container(store, KEY, blocks=blocks, size=size, seed=1)
        clock = SystemClock()
        store.clear()
        with peak_memory() as peak:
            began = time.perf_counter()
            file = await HyperFile.open(store, KEY, clock=clock, rng=system_random())
            opened, requests = time.perf_counter() - began, store.requests
            began = time.perf_counter()
            await file.pread(size // 2, 4096)
            read, more = time.perf_counter() - began, store.requests - requests
            memory = peak()
        await file.close()
        await store.close()
        return opened, read, requests, more, memory

    found = [site.run(once(number == 0)) for number in range(rounds)]
    opened = statistics.median(each[0] for each in found) * 1e3
    read = statistics.median(each[1] for each in found) * 1e3
    _, _, requests, more, memory = found[-1]
    print(
        f"open     100 GiB with {blocks} mapped blocks, {rounds} rounds: {requests} requests to "
        f"open it ({opened:.1f} ms), {more} for the first 4 KiB ({read:.1f} ms, memory traced); "
        f"{memory:.1f} MiB of memory at most; load {os.getloadavg()[0]:.1f}"
    )
    site.clear(f"{KEY}/")


async def append(tree: Map, count: int, step: int) -> None:
    for start in range(0, count, step):
        indexes = array("Q", range(start, min(start + step, count)))
        await tree.apply(MapChanges(indexes, array("Q"), RangeSet()))


def bench_map(rounds: int) -> None:
    """One batch of n appended blocks, and n of them in batches, without a store."""
    for batch in (0, 1000):
        figures = []
        for count in (250_000, 500_000, 1_000_000):
            times = []
            for _ in range(rounds):
                tree = Map(255)
                began = time.perf_counter()
                asyncio.run(append(tree, count, batch or count))
                times.append(time.perf_counter() - began)
            figures.append((count, statistics.median(times), tree.nodes.loads))
        steps = ", ".join(f"{n}: {s:.3f} s, {loads} nodes read" for n, s, loads in figures)
        ratios = ", ".join(f"{b[1] / a[1]:.2f}" for a, b in itertools.pairwise(figures))
        how = f"batches of {batch}" if batch else "one batch"
        print(f"map      appends in {how}: {steps}; twice as many take {ratios} times as long")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ("read", "write", "random", "open", "map")
    parser.add_argument("what", nargs="*", choices=[*names, []], default=list(names))
    parser.add_argument("--server", choices=("minio", "moto", "directory"), default="minio")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--in-flight", type=int, default=4)
    asked = parser.parse_args()
    print(f"load before: {os.getloadavg()[0]:.1f}, {os.cpu_count()} processors")
    with (
        tempfile.TemporaryDirectory(dir=asked.folder) as name,
        running_site(asked.server, Path(name), asked.in_flight) as site,
    ):
        for what in asked.what:
            if what == "read":
                bench_read(site, asked.mib * MIB, asked.rounds, asked.in_flight)
            elif what == "write":
                bench_write(site, asked.mib * MIB, asked.rounds, asked.in_flight)
            elif what == "random":
                bench_random(site, min(asked.mib, 128) * MIB, asked.rounds)
            elif what == "open":
                bench_open(site, asked.rounds)
            else:
                bench_map(asked.rounds)


if __name__ == "__main__":
    main()
