"""Flush throughput against MinIO, next to plain parallel PUTs of the same objects, as a ratio.

    python tests/bench/bench_flush.py [--folder DIR] [--rounds 5] [--mib 256] [--record 65536 …]

The agent's side is the real flusher: the WAL is filled while the store is held back, and timed is
what passes from then until everything is committed. The plain side puts objects of the same
sizes and bytes, out of memory, with the client library that the agent uses, as many at a time as
the agent flushes streams. Both run in this process, one after the other, in changing order; figures
of one run are comparable with each other only. Prints ratios and asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.copies import Copies, counted_copies
from hf_agent.clock import SystemClock, system_random
from hf_agent.flusher.preflight import Preflight
from hf_agent.metrics import Metrics
from hf_agent.store.base import ObjectInfo, StoreNotFound
from hf_agent.store.s3 import S3Store
from hf_agent.wal import WalConfig
from support.flushing import Flushing
from support.s3_servers.minio import HOW_TO_GET_MINIO, Minio, find_minio, running_minio

MIB = 1 << 20
STREAMS = 4
FLUSH_BYTES = 16 * MIB
BLOCK_SIZE = 64 << 10
WANTED = 0.8


@dataclass(frozen=True)
class Round:
    """One side's work."""

    seconds: float
    nbytes: int
    """Of all objects that were stored."""
    requests: Counter[str]
    cpu: float
    """Seconds of this process."""
    sizes: tuple[int, ...] = ()
    copies: Copies | None = None

    @property
    def rate(self) -> float:
        """MiB per second."""
        return self.nbytes / MIB / self.seconds


# -- the agent's side -----------------------------------------------------------------------------


class Agent:
    """A flusher over a WAL, in front of a store that does not answer before it is let go."""

    def __init__(self, folder: Path, server: Minio, bucket: str, **options: Any) -> None:
        self.requests: Counter[str] = Counter()
        self.store = S3Store(
            bucket,
            "agent",
            options=server.options(**options),
            clock=SystemClock(),
            observer=lambda operation, code, seconds: self.requests.update([operation]),
        )
        self.let_go = asyncio.Event()
        self.flushing = Flushing(
            folder,
            self.store,
            flush_bytes=FLUSH_BYTES,
            block_size=BLOCK_SIZE,
            wal=WalConfig(),
            preflight=Preflight(
                self._held_back,
                retry_min=1.0,
                retry_max=1.0,
                clock=SystemClock(),
                rng=system_random(),
                metrics=Metrics(),
                on_defect=lambda error: None,
            ),
        )

    async def _held_back(self) -> None:
        await self.let_go.wait()

    async def fill(self, total: int, record: int, pool: memoryview) -> None:
        """Append `total` bytes, over all streams, in records of `record` bytes."""
        intake = self.flushing.intake
        at = 0
        for number in range(total // record):
            data = pool[at : at + record]
            intake.append(f"stream-{number % STREAMS}", data, records=1, mark=None)
            at = (at + record) % (len(pool) - record)
            if number % (8 * MIB // record + 1) == 0:
                await intake.durable(intake.barrier())
        await intake.durable(intake.barrier())

    async def flush(self) -> float:
        """Let the store answer; the seconds until everything is committed."""
        began = time.perf_counter()
        self.let_go.set()
        await self.flushing.intake.flush(None)
        return time.perf_counter() - began


async def agent_round(
    folder: Path, server: Minio, bucket: str, total: int, record: int, pool: memoryview
) -> Round:
    """Fill a WAL, then flush it."""
    agent = Agent(folder / "wal", server, bucket)
    with suppress(StoreNotFound):
        await agent.store.head("nothing")  # it reads the client library's data, and connects
    await agent.flushing.start()
    try:
        await agent.fill(total, record, pool)
        cpu = time.process_time()
        with counted_copies() as copies:
            seconds = await agent.flush()
        cpu = time.process_time() - cpu
        requests = agent.requests - Counter(head=1)
        sizes = [
            info.size
            async for info in agent.store.list()
            if isinstance(info, ObjectInfo) and not info.key.endswith("/inode")
        ]
        return Round(seconds, sum(sizes), requests, cpu, tuple(sizes), copies)
    finally:
        await agent.flushing.stop()
        async for info in agent.store.list():
            assert isinstance(info, ObjectInfo)
            await agent.store.delete(info.key)
        await agent.store.close()


# -- plain PUTs -----------------------------------------------------------------------------------


@asynccontextmanager
async def plain_client(server: Minio, connections: int) -> AsyncIterator[Any]:
    """The client library as it comes, but for checksums that the agent does not send either."""
    config = AioConfig(
        max_pool_connections=connections,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"},
    )
    async with get_session().create_client(
        "s3", region_name="us-east-1", endpoint_url=server.endpoint_url, config=config
    ) as client:
        yield client


async def plain_round(
    server: Minio, bucket: str, sizes: tuple[int, ...], pool: memoryview, parallel: int
) -> Round:
    """PUT objects of these sizes, `parallel` at a time."""
    bodies = [bytes(pool[64 * at : 64 * at + size]) for at, size in enumerate(sizes)]
    async with plain_client(server, parallel) as client:
        await client.list_objects_v2(Bucket=bucket, MaxKeys=1)  # it connects
        left = iter(enumerate(bodies))

        async def worker() -> None:
            for number, body in left:
                await client.put_object(Bucket=bucket, Key=f"plain/{number}", Body=body)

        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker() for _ in range(parallel)))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        for number in range(len(bodies)):
            await client.delete_object(Bucket=bucket, Key=f"plain/{number}")
    return Round(seconds, sum(sizes), Counter(create=len(sizes)), cpu)


# -- all of it ------------------------------------------------------------------------------------


async def compare(folder: Path, server: Minio, total: int, record: int, rounds: int) -> None:
    """Rounds of both sides with records of one size."""
    bucket = server.make_bucket()
    pool = memoryview(os.urandom(FLUSH_BYTES + 4 * MIB))
    sizes: tuple[int, ...] = ()
    agents, plains, ratios = [], [], []
    for number in range(rounds + 1):  # the first one warms up
        with tempfile.TemporaryDirectory(dir=folder) as name:

            async def agent(name: str = name) -> Round:
                return await agent_round(Path(name), server, bucket, total, record, pool)

            if number % 2 == 0:
                ours = await agent()
                plain = await plain_round(server, bucket, ours.sizes, pool, STREAMS)
            else:
                plain = await plain_round(server, bucket, sizes, pool, STREAMS)
                ours = await agent()
        sizes = ours.sizes
        if number:
            agents.append(ours)
            plains.append(plain)
            ratios.append(ours.rate / plain.rate)
            print(
                f"  round {number}: agent {ours.rate:.0f} MiB/s, plain {plain.rate:.0f} MiB/s, "
                f"ratio {ratios[-1]:.2f}; CPU {ours.cpu:.2f} s and {plain.cpu:.2f} s"
            )
    last = agents[-1]
    ratio = statistics.median(ratios)
    print(
        f"flush    {total / MIB:.0f} MiB in records of {record} B, {len(last.sizes)} objects, "
        f"{rounds} rounds: agent {statistics.median(each.rate for each in agents):.0f} MiB/s with "
        f"{last.requests.total()} requests, plain "
        f"{statistics.median(each.rate for each in plains):.0f} MiB/s with "
        f"{plains[-1].requests.total()}, median ratio {ratio:.2f} (wanted: at least {WANTED})"
    )
    print(f"         requests: {dict(last.requests)}; sizes: {dict(Counter(last.sizes))}")
    if last.copies is not None:
        print(f"         {last.copies.describe(sum(last.sizes))}")


def main() -> None:
    """Run with each size of records that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--record", type=int, nargs="*", default=[64 << 10, 1 << 10])
    arguments = parser.parse_args()
    binary = find_minio()
    if binary is None:
        sys.exit(HOW_TO_GET_MINIO)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        with running_minio(binary, folder) as server:
            for record in arguments.record:
                run = compare(folder, server, arguments.mib * MIB, record, arguments.rounds)
                uvloop.run(run)


if __name__ == "__main__":
    main()
