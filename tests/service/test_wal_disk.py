"""The disk of the WAL fails or fills up under a running agent."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hf_agent.client import AsyncClient, ClientOptions, ConnectionLost, fresh_producer
from hf_agent.clock import SystemClock
from hf_agent.config import Config, load
from hf_agent.metrics import Metrics
from hf_agent.service.agent import Agent
from hf_agent.service.exit_status import ExitStatus
from hf_agent.wal import OsDisk
from hf_agent.wal.disk import Buffer
from support.agent_process import AgentProcess
from support.containers import read_container

SMALL_WAL = (
    'file_bytes = "1MiB"\nmax_bytes = "8MiB"\nmax_batch_bytes = "128KiB"\n'
    'max_pending_bytes = "256KiB"'
)


class TroubledDisk(OsDisk):
    """The real disk, but for what a test makes fail."""

    def __init__(self) -> None:
        self.sync_error: int | None = None
        self.space_error: int | None = None

    def fdatasync(self, fd: int) -> None:
        _raise(self.sync_error)
        super().fdatasync(fd)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        _raise(self.sync_error)
        return super().pwritev_sync(fd, buffers, offset)

    def fallocate(self, fd: int, length: int) -> None:
        _raise(self.space_error)
        super().fallocate(fd, length)


def _raise(number: int | None) -> None:
    if number is not None:
        raise OSError(number, os.strerror(number))


def configured(folder: Path) -> tuple[AgentProcess, Config]:
    """A configuration; the process around it is only used for its paths."""
    process = AgentProcess(folder, wal=SMALL_WAL, max_record_bytes="128KiB")
    return process, load(process.config)


def make_agent(config: Config, disk: TroubledDisk) -> Agent:
    return Agent(config, clock=SystemClock(), rng=random.Random(1), metrics=Metrics(), disk=disk)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_failed_sync_is_final_and_acknowledges_nothing(tmp_path: Path) -> None:
    process, config = configured(tmp_path / "a")
    disk = TroubledDisk()
    agent = make_agent(config, disk)
    await agent.start()
    options = ClientOptions(reconnect_timeout=0.2)
    async with AsyncClient(process.append_socket, fresh_producer(), options=options) as client:
        await client.append("app", b"before")
        await client.wait_acknowledged()
        disk.sync_error = errno.EIO
        id = await client.append("app", b"never acknowledged")
        status = await asyncio.wait_for(agent.run(), 30)
        assert status == ExitStatus.WAL_DISK_FAILED
        assert agent.ready()[0] is False
        assert agent.health() == (False, ["failed"])
        await agent.stop(status)
        with pytest.raises(ConnectionLost):
            await client.wait(id)
        await client.abort()
    disk.sync_error = None
    again = make_agent(config, disk)
    await again.start()
    await again.stop(ExitStatus.DONE)
    stored = await read_container(process, "node-1/app")
    assert stored in (b"before", b"beforenever acknowledged"), "whole appends or nothing of them"


async def test_a_full_disk_makes_clients_wait_and_goes_on_by_itself(tmp_path: Path) -> None:
    process, config = configured(tmp_path / "a")
    disk = TroubledDisk()
    agent = make_agent(config, disk)
    await agent.start()
    expected = [b"%06d" % number + bytes(50_000) for number in range(100)]

    async def send() -> None:
        async with AsyncClient(process.append_socket, fresh_producer()) as client:
            for data in expected:
                await client.append("app", data)
            await client.wait_acknowledged()

    disk.space_error = errno.ENOSPC
    sending = asyncio.create_task(send())
    await until(lambda: not agent.ready()[0])
    assert any("WAL full" in reason for reason in agent.ready()[1])
    assert not sending.done()
    disk.space_error = None
    await asyncio.wait_for(sending, 60)
    await until(lambda: agent.ready()[0])
    await agent.stop(ExitStatus.DONE)
    assert await read_container(process, "node-1/app") == b"".join(expected)
