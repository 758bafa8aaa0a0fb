"""The main job over every kind of store, and with the store's answers lost, late, doubled or wrong.

One run for each seed: an agent takes appends and lines, is killed while a request of its is under
way, is started again, and stops; then the containers hold every acknowledged append once, in order.
`HF_AGENT_FAULT_SEEDS` chooses the seeds; a failing one is printed with what replays it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hf_agent.clock import SystemClock
from hf_agent.store.base import ObjectInfo
from hf_agent.store.s3 import S3Store
from support.agent_process import AgentProcess
from support.main_job import MainJob
from support.moto_s3 import MotoS3
from support.s3_servers.directory_sessions import Sessions
from support.s3_servers.fault_proxy import Breakpoint
from support.s3_servers.faults import FaultPlan, Script, SeededPlan
from support.s3_servers.seeds import fault_seeds, reported
from support.s3_servers.servers import (
    DirectoryBucketServer,
    S3Server,
    behind_faults,
    minio,
    moto_s3,
    serve_directory_buckets,
)

__all__ = ["minio", "moto_s3"]

SERVERS = ("moto_s3", "minio", "directory_buckets")
APPENDS = 150
LINES = 300
"""Of each half of the job."""
MOST_REQUESTS_BEFORE_THE_KILL = 24
RATE = 0.1
"""Every tenth request begins a fault. A stream that met one opens its container anew, which takes
about ten requests: with many more faults most flushes would be the next one's beginning."""
PREFLIGHT = "/.hf-agent-preflight/"
"""Its requests are spared: there are so many at each start that the kill would come before any
flush, and all have to come through in one try. It meets faults in a test of its own."""
READ_TIMEOUT = "500ms"
"""What ends an answer that stalls."""
FLUSH = 'interval = "20ms"\nretry_min = "5ms"\nretry_max = "50ms"\nshutdown_timeout = "60s"'


@pytest.fixture
def directory_buckets(moto_s3: MotoS3) -> Iterator[DirectoryBucketServer]:
    """Directory buckets whose sessions end in the middle of the job, when nobody expects it."""
    with serve_directory_buckets(moto_s3, Sessions(SystemClock(), lifetime=3600.0)) as server:
        yield server
        assert server.sessions.expired, "no session ended: the test shows less than it should"


def run_job(
    agent: AgentProcess,
    seed: int,
    *,
    breakpoint: Breakpoint | None = None,
    half_way: Callable[[], None] = lambda: None,
) -> MainJob:
    """The job from start to stop; the agent is killed in its first half, at the breakpoint."""
    job = MainJob(agent.append_socket, agent.lines_socket, random.Random(seed))
    try:
        agent.start()
        job.send(appends=APPENDS, lines=LINES)
        assert job.under_way.wait(60), agent.log_text()
        if breakpoint is not None:
            assert breakpoint.reached.wait(60), agent.log_text()
        agent.kill()
        agent.start()
        if breakpoint is not None:
            breakpoint.go_on()
        job.wait()
        half_way()
        job.send(appends=APPENDS, lines=LINES)
        job.wait()
        assert agent.stop() == 0, agent.log_text()
    except BaseException:
        print(agent.log_text())
        raise
    finally:
        agent.close()
        job.give_up()
    return job


def run_on(server: S3Server, plan: FaultPlan, folder: Path, seed: int) -> None:
    """The job on a new bucket of `server`, with the faults of `plan` in between."""
    rng = random.Random(seed)
    breakpoint = Breakpoint(rng.randrange(MOST_REQUESTS_BEFORE_THE_KILL))
    bucket = server.make_bucket()
    with behind_faults(server, plan, breakpoint=breakpoint, spared=PREFLIGHT) as faulty:
        agent = AgentProcess(
            folder / "a",
            store_url=f"s3://{bucket}/logs",
            s3={
                "endpoint_url": faulty.endpoint_url,
                "addressing": "path",
                "read_timeout": READ_TIMEOUT,
            },
            env=server.env,
            flush=FLUSH,
        )
        sessions = server.sessions if isinstance(server, DirectoryBucketServer) else None
        half_way = sessions.end_all if sessions else lambda: None
        job = run_job(agent, seed, breakpoint=breakpoint, half_way=half_way)
    job.check(asyncio.run(objects_of(server, bucket)), "logs/node-1/")


async def objects_of(server: S3Server, bucket: str) -> dict[str, bytes]:
    """Every object of a bucket, read without faults."""
    store = S3Store(bucket, options=server.options(), clock=SystemClock())
    try:
        found = [item async for item in store.list()]
        keys = [item.key for item in found if isinstance(item, ObjectInfo)]
        return {key: (await store.get(key)).data for key in keys}
    finally:
        await store.close()


def test_on_the_directory_store_everything_acknowledged_is_stored_once(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a", flush=FLUSH)
    job = run_job(agent, seed=1)
    root = tmp_path / "a" / "store"
    files = [path for path in root.rglob("*") if path.is_file() and path.name[0] != "."]
    job.check({str(path.relative_to(root)): path.read_bytes() for path in files}, "node-1/")


@pytest.mark.parametrize("name", SERVERS)
def test_on_a_server_everything_acknowledged_is_stored_once(
    request: pytest.FixtureRequest, tmp_path: Path, name: str
) -> None:
    run_on(request.getfixturevalue(name), Script([]), tmp_path, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", fault_seeds(4))
@pytest.mark.parametrize("name", SERVERS)
def test_behind_faults_everything_acknowledged_is_stored_once(
    request: pytest.FixtureRequest, tmp_path: Path, name: str, seed: int
) -> None:
    plan = SeededPlan(seed, rate=RATE)
    with reported(seed, request.node.nodeid, plan):
        run_on(request.getfixturevalue(name), plan, tmp_path, seed)
        assert plan.log, "nothing went wrong: the test shows nothing"
