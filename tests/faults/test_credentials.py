"""Credentials expire under a running agent: it goes on by itself once there are new ones."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.containers import read_container
from support.moto_s3 import MotoS3, moto_s3
from support.s3_gate import S3Gate

__all__ = ["moto_s3"]


@pytest.fixture
def gate(moto_s3: MotoS3) -> Iterator[S3Gate]:
    gate = S3Gate(moto_s3.endpoint_url)
    yield gate
    gate.close()


def rotate(file: Path, key: str) -> None:
    """Put new credentials in place of the old ones, as a renewer does it: in one step."""
    new = file.with_suffix(".new")
    new.write_text(
        f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret-of-{key}\n"
        f"aws_session_token = token-of-{key}\n"
    )
    os.replace(new, file)


def until(agent: AgentProcess, condition: Callable[[dict[str, Any]], bool]) -> None:
    """Ask for the status until the condition holds."""
    pause = threading.Event()
    for _ in range(1200):
        status = json.loads(agent.get("/api/status")[1])
        if condition(status):
            return
        pause.wait(0.05)
    raise AssertionError(f"it did not come to that: {status}\n{agent.log_text()}")


@pytest.mark.parametrize("expire", ["at-start", "mid-run"])
def test_expired_credentials_stop_no_append_and_new_ones_in_the_file_are_taken_over(
    tmp_path: Path, moto_s3: MotoS3, gate: S3Gate, expire: str
) -> None:
    file = tmp_path / "credentials"
    rotate(file, "FIRST")
    agent = AgentProcess(
        tmp_path / "a",
        store_url=f"s3://{moto_s3.make_bucket()}/logs",
        s3={"endpoint_url": gate.url, "addressing": "path"},
        env={
            **moto_s3.env,
            "AWS_ACCESS_KEY_ID": "",
            "AWS_SECRET_ACCESS_KEY": "",
            "AWS_SHARED_CREDENTIALS_FILE": str(file),
        },
        flush='interval = "50ms"\nretry_min = "20ms"\nretry_max = "200ms"',
    )
    gate.accepted = {"FIRST"} if expire == "mid-run" else set()
    agent.start()
    expected = b""
    try:
        with Client(agent.append_socket, producer=fresh_producer()) as client:

            def append(count: int) -> None:
                nonlocal expected
                for _ in range(count):
                    data = b"%d\n" % len(expected)
                    client.append("app", data)
                    expected += data
                client.wait_acknowledged()

            append(50)
            if expire == "mid-run":
                until(agent, lambda status: status["unflushed_bytes"] == 0)
                gate.accepted = set()
                append(50)
            for _ in range(5):
                assert gate.expired.acquire(timeout=60), "tried again and again"
            until(agent, lambda status: status["store"]["away"])
            assert agent.get("/readyz")[0] == 200, "the store is merely away"
            append(50)
            gate.accepted = {"SECOND"}
            assert gate.expired.acquire(timeout=60), "the old ones are of no use any more"
            rotate(file, "SECOND")
            until(agent, lambda status: status["unflushed_bytes"] == 0)
            append(50)
            until(agent, lambda status: not status["store"]["away"])
        assert agent.stop() == 0, agent.log_text()
    finally:
        agent.close()
    told = [json.loads(line) for line in agent.log_text().splitlines() if "have expired" in line]
    assert len(told) == 1, "once, and not at every try"
    over = "flushing again" if expire == "mid-run" else "passed the preflight"
    assert sum(over in line for line in agent.log_text().splitlines()) == 1
    gate.accepted = None
    assert asyncio.run(read_container(agent, "node-1/app")) == expected
