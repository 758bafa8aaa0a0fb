"""What the agent does with its store at the start, and what it says while that does not work."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import structlog

from hf_agent.client import Client, fresh_producer
from hf_agent.config import load
from hf_agent.hyperfile import list_containers
from hf_agent.metrics import Metrics
from hf_agent.service.core import Core, wal_config
from hf_agent.service.store_start import abort_left_uploads, preflight_attempt
from hf_agent.store.base import StoreRefused, StoreRetry
from hf_agent.streams.key import StreamKeys
from hf_agent.wal import Wal
from support.agent_process import AgentProcess
from support.containers import read_container
from support.memory_store import Call, MemoryStore
from support.moto_s3 import MotoS3, moto_s3
from support.s3_gate import S3Gate
from support.skipping_clock import SkippingClock

__all__ = ["moto_s3"]

FAST = 'interval = "50ms"\nretry_min = "20ms"\nretry_max = "200ms"'


@pytest.fixture
def gate(moto_s3: MotoS3) -> Iterator[S3Gate]:
    gate = S3Gate(moto_s3.endpoint_url)
    yield gate
    gate.close()


def make_agent(
    folder: Path, server: MotoS3, bucket: str, *, url: str = "", flush: str = FAST
) -> AgentProcess:
    return AgentProcess(
        folder,
        store_url=f"s3://{bucket}/logs",
        s3={"endpoint_url": url or server.endpoint_url, "addressing": "path"},
        env=server.env,
        flush=flush,
    )


def wait_until_ready(agent: AgentProcess, ready: bool) -> str:
    """Ask until the agent is ready, or not; its reasons."""
    pause = threading.Event()
    for _ in range(1200):
        status, reasons = agent.get("/readyz")
        if (status == 200) is ready:
            return reasons
        pause.wait(0.05)
    raise AssertionError(f"still {reasons}\n{agent.log_text()}")


def logged(agent: AgentProcess, event: str) -> list[dict[str, Any]]:
    """The log lines that contain `event`."""
    lines = agent.log_text().splitlines()
    return [json.loads(line) for line in lines if event in line]


# -- the preflight -----------------------------------------------------------------------------


async def test_a_bucket_that_appears_ten_minutes_late_is_found_without_a_restart(
    tmp_path: Path, moto_s3: MotoS3
) -> None:
    bucket = "ten-minutes-late"
    config = load(make_agent(tmp_path / "a", moto_s3, bucket, flush="").config)
    clock, metrics = SkippingClock(), Metrics()
    start = clock.now
    waiting: list[str] = []

    def time_passes(seconds: float) -> None:
        if core.preflight.passed.is_set():
            return
        waiting.append(core.unfit)
        core.intake.append("app", b"%d\n" % len(waiting), records=1, mark=None)
        if clock.now - start >= 600 and not made:
            made.append(moto_s3.make_bucket(bucket))

    made: list[str] = []
    clock.on_sleep = time_passes
    wal = Wal.open(Path(config.wal.dir), wal_config(config), clock=clock, rng=random.Random(1))
    core = Core(
        config,
        wal,
        clock=clock,
        rng=random.Random(2),
        metrics=metrics,
        on_wal_failed=lambda: None,
        on_defect=lambda error: None,
    )
    with structlog.testing.capture_logs() as logs:
        core.start()
        core.intake.append("app", b"0\n", records=1, mark=None)
        async with asyncio.timeout(60):
            await core.preflight.passed.wait()
            await core.intake.flush(None)
    assert core.unfit == ""
    assert all("NoSuchBucket" in reason for reason in waiting)
    assert sum(clock.slept[: len(waiting)]) >= 600
    told = [entry["event"] for entry in logs if entry["log_level"] in ("warning", "error")]
    assert len(told) == 1, told
    assert "failed the preflight" in told[0]
    assert [entry["event"] for entry in logs].count("the store passed the preflight") == 1
    await core.close()
    stored = await read_container(make_agent(tmp_path / "b", moto_s3, bucket), "node-1/app")
    assert stored == b"".join(b"%d\n" % number for number in range(len(waiting) + 1))


def test_a_missing_bucket_makes_the_agent_unready_and_stops_no_append(
    tmp_path: Path, moto_s3: MotoS3
) -> None:
    agent = make_agent(tmp_path / "a", moto_s3, "made-later").start()
    try:
        reasons = wait_until_ready(agent, False)
        assert "store refused" in reasons
        assert "create the bucket" in reasons
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            for number in range(100):
                client.append("app", b"%d\n" % number)
            client.wait_acknowledged()
        store = json.loads(agent.get("/api/status")[1])["store"]
        assert (store["preflight"], store["away"]) == ("refused", False)
        assert "NoSuchBucket" in store["reason"]
        metrics = agent.get("/metrics")[1]
        assert "hf_agent_store_preflight_passed 0.0" in metrics
        assert 'hf_agent_store_preflights_total{result="refused"} 0.0' not in metrics
        assert agent.get("/healthz")[0] == 200
        moto_s3.make_bucket("made-later")
        wait_until_ready(agent, True)
        assert "hf_agent_store_preflight_passed 1.0" in agent.get("/metrics")[1]
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    assert len(logged(agent, "failed the preflight")) == 1
    stored = asyncio.run(read_container(agent, "node-1/app"))
    assert stored == b"".join(b"%d\n" % number for number in range(100))


def test_a_server_that_ignores_the_conditions_gets_nothing(
    tmp_path: Path, moto_s3: MotoS3, gate: S3Gate
) -> None:
    gate.honours_conditions = False
    agent = make_agent(tmp_path / "a", moto_s3, moto_s3.make_bucket(), url=gate.url).start()
    try:
        assert "conditional writes" in wait_until_ready(agent, False)
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            client.append("app", b"kept")
            client.wait_acknowledged()
        agent.kill()  # a stop would wait for a flush until its time is over
        assert asyncio.run(keys_of(agent)) == [], "neither a container nor a scratch key"
        gate.honours_conditions = True
        agent.start()
        wait_until_ready(agent, True)
        assert agent.stop() == 0
    finally:
        agent.close()
    assert asyncio.run(read_container(agent, "node-1/app")) == b"kept"


async def keys_of(agent: AgentProcess) -> list[str]:
    from support.containers import agent_store

    store = agent_store(agent)
    try:
        return [str(item) async for item in store.list()]
    finally:
        await store.close()


async def test_scratch_keys_differ_look_like_no_container_and_are_gone_in_the_end() -> None:
    store = MemoryStore()
    seen: set[str] = set()
    containers: list[str] = []

    def look(call: Call) -> None:
        if call.operation == "create":
            seen.add(call.key)

    store.after = look
    attempt = preflight_attempt(store, clock=SkippingClock(), rng=random.Random(1))
    for _ in range(3):
        await attempt()
        containers += [key async for key in list_containers(store)]
    assert len(seen) >= 3
    assert all(key.startswith(".hf-agent-preflight/") for key in seen)
    assert not any(key.endswith("/inode") for key in seen)
    assert containers == []
    assert store.objects == {}


# -- uploads that an earlier process left ------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "prefix"),
    [
        ("{node}/{stream}", "node-1/"),
        ("logs/{node}/{stream}", "logs/node-1/"),
        ("logs/{node}/a-{stream}", "logs/node-1/"),
        ("logs/on-{node}/today/{stream}", "logs/on-node-1/today/"),
        ("{stream}", ""),
        ("{stream}/{node}", ""),
        ("logs/{stream}", ""),
        # Node `node-1` would take the keys of a node `node-1-b` for its own.
        ("{node}-{stream}", ""),
    ],
)
def test_the_folder_that_is_a_nodes_own_comes_from_the_template(template: str, prefix: str) -> None:
    assert StreamKeys(template, "node-1").own_prefix == prefix


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    """A core on the directory store, not started."""
    config = load(AgentProcess(tmp_path / "a").config)
    clock = SkippingClock()
    wal = Wal.open(Path(config.wal.dir), wal_config(config), clock=clock, rng=random.Random(1))
    core = Core(
        config,
        wal,
        clock=clock,
        rng=random.Random(2),
        metrics=Metrics(),
        on_wal_failed=lambda: None,
        on_defect=lambda error: None,
    )
    yield core
    await core.close()


@pytest.mark.parametrize("error", [None, StoreRetry("no answer"), StoreRefused("access denied")])
async def test_left_uploads_are_aborted_after_the_preflight_and_hold_up_nothing(
    core: Core, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    asked: list[tuple[str, float, bool]] = []
    go_on, done = asyncio.Event(), asyncio.Event()

    async def abort(prefix: str, *, before: float) -> int:
        asked.append((prefix, before, core.preflight.passed.is_set()))
        await go_on.wait()
        done.set()
        if error is not None:
            raise error
        return 3

    monkeypatch.setattr(core.store, "abort_left_uploads", abort)
    began = core._clock.time()
    with structlog.testing.capture_logs() as logs:
        core.start()
        core.intake.append("app", b"data", records=1, mark=None)
        async with asyncio.timeout(30):
            await core.intake.flush(None)
            go_on.set()
            await done.wait()
            assert core._clean_up is not None
            await core._clean_up
    assert asked == [("node-1/", began, True)]
    told = [entry for entry in logs if "uploads" in entry["event"]]
    assert len(told) == 1
    if error is None:
        assert (told[0]["log_level"], told[0]["uploads"]) == ("info", 3)
    else:
        assert (told[0]["log_level"], told[0]["reason"]) == ("warning", str(error))


def test_an_upload_that_a_killed_process_left_is_gone_after_the_next_start(
    tmp_path: Path, moto_s3: MotoS3
) -> None:
    bucket = moto_s3.make_bucket()
    for key in ("logs/node-1/app/0000000001.0", "logs/node-2/app/0000000001.0"):
        url = f"{moto_s3.endpoint_url}/{bucket}/{key}?uploads"
        with urlopen(Request(url, method="POST"), timeout=30) as answer:
            assert answer.status == 200
    # The server tells whole seconds, and an upload of this very second might be the process's own.
    threading.Event().wait(1.1)
    agent = make_agent(tmp_path / "a", moto_s3, bucket).start()
    pause = threading.Event()
    try:
        for _ in range(1200):
            if moto_s3.unfinished_uploads(bucket) == 1:
                break
            pause.wait(0.05)
        assert moto_s3.unfinished_uploads(bucket) == 1, "the other node's is left alone"
        assert agent.stop() == 0
    finally:
        agent.close()
    assert [line["uploads"] for line in logged(agent, "aborted uploads")] == [1]


async def test_without_a_folder_of_its_own_a_node_aborts_nothing() -> None:
    store = MemoryStore()
    await abort_left_uploads(store, "", before=1.0)
    assert store.calls == []
