"""Faults of the log, of clients and of the process; the runbook's sections lead to the cause."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hf_agent.client import AsyncClient, Client, fresh_producer
from hf_agent.clock import SystemClock
from hf_agent.config import load
from hf_agent.metrics import Metrics
from hf_agent.service.agent import Agent
from hf_agent.service.exit_status import ExitStatus
from hf_agent.wal import OsDisk
from hf_agent.wal.disk import Buffer
from support.agent_process import AgentProcess
from support.containers import read_container
from support.runbook import (
    FLUSH_FAILED,
    QUICK,
    SMALL_WAL,
    Section,
    Terminal,
    append,
    edit,
    in_own_mounts,
    running,
    terminal,
    until,
)

__all__ = ["terminal"]


# -- the log ----------------------------------------------------------------------------------


def test_damage_in_the_log_of_a_running_agent(tmp_path: Path, terminal: Terminal) -> None:
    late = QUICK.replace('interval = "50ms"', 'interval = "1h"')
    agent = AgentProcess(tmp_path / "a", flush=late)
    corrupt = Section("HfAgentCorruption", agent)
    with running(agent):
        append(agent, "app", *(b"line %d, not said elsewhere\n" % number for number in range(9)))
        for path in agent.wal_files():
            place = path.read_bytes().find(b"line 4, not")
            if place >= 0:
                with path.open("r+b") as file:
                    file.seek(place)
                    file.write(b"L")
        agent.send(signal.SIGUSR1)
        line = corrupt.logged(FLUSH_FAILED, result=corrupt.says("corrupt"))
        corrupt.says("`reason` names file and offset")
        assert re.search(r"\.wal offset=\d+", line["reason"])
        assert corrupt.metric("hf_agent_wal_corruptions_total") == 1
        assert corrupt.metric('hf_agent_failing_streams{result="corrupt"}') == 1
        directory = str(agent.wal_dir)
        assert "checksum mismatch" in terminal.run(corrupt, "wal", "inspect", directory, status=1)

        corrupt.says("Stop the agent")
        assert agent.stop() == 0
        agent.start(wait=False)
        assert agent.wait() == 74
        corrupt.says("status 74, with file and offset")
        assert re.search(r"log is damaged: .* file=.* offset=", agent.log_text())
        said = terminal.run(corrupt, "wal", "repair", "--dry-run", directory, status=1)
        assert "stream app: bytes" in said
        terminal.run(corrupt, "wal", "repair", directory, status=0)
        assert list(agent.wal_dir.glob("damaged-*"))
        agent.start()
        assert corrupt.metric("hf_agent_wal_corruptions_total") == 0
        with Client(agent.append_socket) as client:
            client.flush("app", timeout=120)
        stored = asyncio.run(read_container(agent, "node-1/app"))
        assert stored.count(b"not said elsewhere\n") == 8

        # Starts that failed and the one that did not are what the section of the loop looks at.
        loop = Section("HfAgentRestartLoop", agent)
        assert loop.logged("WAL recovered")[loop.says("seconds")] >= 0


class SlowDisk(OsDisk):
    """Each sync takes `SECONDS` longer, as on a disk that is shared with something that writes."""

    SECONDS = 0.3

    def fdatasync(self, fd: int) -> None:
        threading.Event().wait(self.SECONDS)
        super().fdatasync(fd)

    def pwritev_sync(self, fd: int, buffers: Sequence[Buffer], offset: int) -> int:
        threading.Event().wait(self.SECONDS)
        return super().pwritev_sync(fd, buffers, offset)


async def test_a_disk_that_syncs_slowly(tmp_path: Path) -> None:
    process = AgentProcess(tmp_path / "a", flush=QUICK)
    metrics = Metrics()
    agent = Agent(
        load(process.config),
        clock=SystemClock(),
        rng=random.Random(1),
        metrics=metrics,
        disk=SlowDisk(),
    )
    await agent.start()
    async with AsyncClient(process.append_socket, fresh_producer()) as client:
        for _ in range(3):
            await client.append("app", b"x\n")
            await client.wait_acknowledged()
    await agent.stop(ExitStatus.DONE)
    text = Section("HfAgentAppendSlow", process).text
    assert (
        "`histogram_quantile(0.99, rate(hf_agent_wal_sync_duration_seconds_bucket[10m]))`" in text
    )
    assert "as slow means the disk" in text
    value = metrics.registry.get_sample_value
    for name in ("hf_agent_append_duration_seconds", "hf_agent_wal_sync_duration_seconds"):
        # Nothing, or next to nothing, was faster than the disk.
        count, faster = value(f"{name}_count"), value(f"{name}_bucket", {"le": "0.25"})
        assert count is not None and faster is not None
        assert count - faster >= 3


def test_a_disk_that_has_no_room_for_the_log(tmp_path: Path) -> None:
    launcher = in_own_mounts("-o size=3m tmpfs wal")
    agent = AgentProcess(
        tmp_path / "a",
        store_url="s3://unreachable/logs",
        s3={"endpoint_url": "http://127.0.0.1:9", "region": "us-east-1"},
        wal=SMALL_WAL,
        flush=QUICK,
        max_record_bytes="64KiB",
        launcher=launcher,
    )
    agent.wal_dir.mkdir()
    paused = Section("HfAgentIngestionPaused", agent)
    filling = Section("HfAgentWalDiskFilling", agent)

    def fill() -> None:
        with socket.socket(socket.AF_UNIX) as lines:
            lines.connect(str(agent.lines_socket))
            try:
                lines.sendall((b"x" * 8191 + b"\n") * 600)
            except OSError:
                pass  # the agent was ended

    sender = threading.Thread(target=fill, daemon=True)
    with running(agent):
        sender.start()
        line = paused.logged("WAL full: clients wait or are refused")
        paused.says("reason says no space or quota")
        assert "No space left" in line["reason"] or "no space" in line["reason"]
        assert filling.metric("hf_agent_wal_disk_free_bytes") < 1 << 20
        assert filling.metric("hf_agent_wal_size_bytes") > 1 << 20
        assert filling.metric("hf_agent_wal_size_bytes") < 4 << 20
    sender.join(60)


# -- clients ----------------------------------------------------------------------------------


def test_records_and_connections_that_are_refused(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a", max_record_bytes="64KiB", lines_stream="{first_line}")
    edit(agent, "data_dir", "max_streams = 2\ndata_dir")
    edit(agent, 'protocol = "append"\n', 'protocol = "append"\nallow_streams = ["ok/*"]\n')
    edit(agent, 'protocol = "forward"\n', 'protocol = "forward"\nallow_uids = [4242]\n')
    edit(agent, 'protocol = "lines"\n', 'protocol = "lines"\nmax_connections_per_uid = 2\n')
    refused = Section("HfAgentRecordsRefused", agent)
    turned_away = Section("HfAgentConnectionsRefused", agent)
    near = Section("HfAgentStreamsNearLimit", agent)

    def sent(path: Path, data: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.settimeout(60)
            stranger.connect(str(path))
            stranger.sendall(data)
            stranger.shutdown(socket.SHUT_WR)
            try:
                return b"".join(iter(lambda: stranger.recv(4096), b""))
            except ConnectionResetError:
                return b""  # not all of it was read

    def count(reason: str, protocol: str) -> float:
        refused.says(f"| `{reason}`")
        labels = f'{{protocol="{protocol}",reason="{reason}"}}'
        return refused.metric("hf_agent_rejected_records_total", labels=labels)

    def line(section: Section, code: str) -> dict[str, Any]:
        found = section.logged("connection ends", code=code)
        for field in ("code", "reason", "socket"):
            assert found[field] and section.says(f"`{field}`")
        return found

    with running(agent):
        sent(agent.lines_socket, b"ok/a\n" + bytes(1 << 17) + b"\n")
        assert count("too_large", "lines") == 1
        assert line(refused, refused.says("record_too_large"))["socket"] == str(agent.lines_socket)
        sent(agent.append_socket, b"GET / HTTP/1.1\r\n\r\n")
        assert count("too_large", "append") == 1
        assert line(refused, refused.says("frame_too_large"))["socket"] == str(agent.append_socket)
        sent(agent.lines_socket, b"no//name\nx\n")
        assert count("bad_stream", "lines") == 1
        line(refused, "bad_stream")

        with Client(agent.append_socket) as client, pytest.raises(Exception, match="other/x"):
            client.append("other/x", b"x")
            client.wait_acknowledged()
        assert count("stream_not_allowed", "append") == 1
        refused.says("the agent logs nothing of it")
        assert "stream_not_allowed" not in agent.log_text()

        for name in (b"ok/a", b"ok/b", b"ok/c"):
            sent(agent.lines_socket, name + b"\nx\n")
        assert count("too_many_streams", "lines") == 1
        line(refused, "too_many_streams")
        assert near.metric("hf_agent_streams") == near.metric("hf_agent_max_streams") == 2

        sent(agent.forward_socket, b"")
        uid = f"uid={os.getuid()}"
        assert uid in line(turned_away, turned_away.says("not_allowed"))["reason"]
        with ExitStack() as stack:
            for _ in range(3):
                held = stack.enter_context(socket.socket(socket.AF_UNIX))
                held.connect(str(agent.lines_socket))
                held.sendall(b"ok/a\n")
            assert uid in line(turned_away, turned_away.says("too_many_connections"))["reason"]
        for protocol, reason in (
            ("forward", "not_allowed"),
            ("lines", "too_many_connections_per_uid"),
        ):
            labels = f'{{protocol="{protocol}",reason="{turned_away.says(reason)}"}}'
            assert turned_away.metric("hf_agent_refused_connections_total", labels=labels) == 1


def test_a_process_that_may_open_no_more_files(tmp_path: Path) -> None:
    agent = AgentProcess(tmp_path / "a", launcher=("prlimit", "--nofile=48:48"))
    files = Section("HfAgentOpenFilesNearLimit", agent)
    with running(agent), ExitStack() as stack:
        for _ in range(48):
            held = stack.enter_context(socket.socket(socket.AF_UNIX))
            held.connect(str(agent.lines_socket))
        files.logged("cannot accept a connection: raise the limit of open files")
        stack.close()

        def let_in() -> bool:
            try:
                return files.metric("process_max_fds") == 48
            except OSError:
                return False  # not yet

        until(agent, "it lets somebody in again", let_in)
        assert files.metric("process_open_fds") < 48


# -- the process ------------------------------------------------------------------------------


def test_an_agent_that_is_down(tmp_path: Path, terminal: Terminal) -> None:
    agent = AgentProcess(tmp_path / "a")
    down = Section("HfAgentDown", agent)
    with running(agent):
        second = AgentProcess(tmp_path / "second", wal=f'dir = "{agent.wal_dir}"')
        second.start(wait=False)
        down.says("| 75 | another process holds the WAL | find it: the message names its process")
        assert second.wait() == 75
        assert f"is held by process {agent.pid}" in second.log_text()

        down.says("| 137, or 9 | killed")
        agent.kill()
        assert agent.wait() == -signal.SIGKILL

        down.says("| 78 | the configuration, an address or a socket: the line says which key")
        edit(agent, "[flush]\n", '[flush]\nintervall = "1s"\n')
        agent.start(wait=False)
        assert agent.wait() == 78
        assert "flush.intervall" in agent.log_text().splitlines()[-1]
        said = terminal.run(down, "check-config", "--config", str(agent.config), status=78)
        assert "flush.interval" in said
