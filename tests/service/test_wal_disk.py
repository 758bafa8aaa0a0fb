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
from support.forward_wire import pack, packed

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


async def answer(path: Path, data: bytes) -> tuple[bytes, bool]:
    """What a client that sends this and ends its side is told, and whether it is reset then."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    said, is_reset = b"", False
    try:
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(60):
            while chunk := await reader.read(1000):
                said += chunk
    except ConnectionError:
        is_reset = True
    writer.close()
    return said, is_reset


MESSAGES = {
    "forward": [packed("app", [1, {"n": n}], chunk=f"chunk-{n}") for n in range(2)],
    "lines": [b"a line\n", b"another\n"],
    "syslog": [b"<14>a message\n", b"<14>another\n"],
}


@pytest.mark.parametrize("protocol", MESSAGES)
async def test_no_protocol_acknowledges_what_was_written_and_could_not_be_synced(
    tmp_path: Path, protocol: str
) -> None:
    process = AgentProcess(
        tmp_path / "a",
        wal=SMALL_WAL,
        max_record_bytes="128KiB",
        syslog={"syslog.sock": 'stream = "syslog"\nmax_record_bytes = "128KiB"'},
    )
    path = process.folder / f"{protocol}.sock"
    first, second = MESSAGES[protocol]
    acknowledged = pack({"ack": "chunk-0"}) if protocol == "forward" else b""
    disk = TroubledDisk()
    agent = make_agent(load(process.config), disk)
    await agent.start()
    assert await answer(path, first) == (acknowledged, False)
    disk.sync_error = errno.EIO
    answering = asyncio.create_task(answer(path, second))
    status = await asyncio.wait_for(agent.run(), 60)
    await agent.stop(status)
    said, is_reset = await answering
    assert status == ExitStatus.WAL_DISK_FAILED
    if protocol == "forward":
        assert said == b"", "the end of file alone says nothing in this protocol"
    else:
        assert is_reset or said.startswith(b"error wal_failed: ")


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
