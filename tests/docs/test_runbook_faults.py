"""Each fault is brought about; where the runbook's section says to look, the cause is to be seen.

What a test looks at goes through `Section.says`, which fails when the section does not send anybody
there. The commands are the section's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hf_agent.cli.main import main
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
from support.moto_s3 import MotoS3, moto_s3
from support.readme import ROOT
from support.relay import Relay

__all__ = ["moto_s3"]

SMALL_WAL = (
    'file_bytes = "512KiB"\nmax_bytes = "4MiB"\nmax_batch_bytes = "64KiB"\n'
    'max_pending_bytes = "128KiB"'
)
QUICK = 'interval = "50ms"\nretry_min = "50ms"\nretry_max = "500ms"\nshutdown_timeout = "2s"'
FLUSH_FAILED = "flush failed, will be tried again"


class Section:
    """One section of the runbook, and the agent that its alert is about."""

    def __init__(self, alert: str, agent: AgentProcess) -> None:
        page = (ROOT / "docs" / "runbook.md").read_text()
        (self.text,) = re.findall(rf"^## {alert}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        self.agent = agent

    def says(self, words: str) -> str:
        """The words, which the section has in it."""
        assert words in self.text, f"the section does not name {words}"
        return words

    def metric(self, sample: str, *, labels: str = "") -> float:
        """The value of a metric that the section names."""
        self.says(sample.split("{")[0])
        found = re.search(
            rf"^{re.escape(sample + labels)} (\S+)$", self.agent.get("/metrics")[1], re.M
        )
        assert found, f"{sample}{labels} is not exported"
        return float(found[1])

    def readyz(self) -> str:
        """The reasons of the address that the section names, which is not ready."""
        self.says("/readyz")
        status, reasons = self.agent.get("/readyz")
        assert status == 503
        return reasons

    def stream(self, name: str, *fields: str) -> dict[str, Any]:
        """A stream's row in the table that the section names, with fields that it names."""
        self.says("/api/streams")
        for field in fields:
            self.says(f"`{field}`")
        rows = json.loads(self.agent.get("/api/streams?limit=1000")[1])["streams"]
        (row,) = [each for each in rows if each["stream"] == name]
        return {field: row[field] for field in fields}

    def store(self, *fields: str) -> dict[str, Any]:
        """`store` of /api/status."""
        self.says("`/api/status`, `store`")
        status = json.loads(self.agent.get("/api/status")[1])["store"]
        return {field: status[field] for field in fields if self.says(f"`{field}`")}

    def logged(self, message: str, **fields: str) -> dict[str, Any]:
        """The newest line of the log with that beginning and these fields; waits for it."""
        self.says(f"`{message}")
        found: list[dict[str, Any]] = []

        def seen() -> bool:
            found[:] = [
                line
                for line in log_lines(self.agent)
                if line["message"].startswith(message) and fields.items() <= line.items()
            ]
            return bool(found)

        until(self.agent, f"{message} {fields}", seen)
        return found[-1]


class Terminal:
    """Runs the commands that sections name."""

    def __init__(self, captured: pytest.CaptureFixture[str]) -> None:
        self._captured = captured

    def run(self, section: Section, *words: str, status: int) -> str:
        """What `hf-agent` with these words prints; the section has the command, by its name."""
        section.says("`hf-agent " + words[0])
        self._captured.readouterr()
        ended = main(words)
        out, err = self._captured.readouterr()
        assert ended == status, out + err
        return out + err


@pytest.fixture
def terminal(capfd: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capfd)


def log_lines(agent: AgentProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in agent.log_text().splitlines() if line.startswith("{")]


def until(agent: AgentProcess, what: str, condition: Callable[[], bool]) -> None:
    """Return when it holds: it is asked for, since nobody sends word."""
    pause = threading.Event()
    for _ in range(1200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError(f"not within a minute: {what}\n{agent.log_text()}")


def append(agent: AgentProcess, stream: str, *records: bytes, flush: bool = False) -> None:
    with Client(agent.append_socket, producer=fresh_producer()) as client:
        for record in records:
            client.append(stream, record)
            client.wait_acknowledged()
        if flush:
            client.flush(stream, timeout=120)


def in_own_mounts(tmpfs: str) -> tuple[str, ...]:
    """What runs a program where this file system is mounted, seen by it alone."""
    private = ("unshare", "--mount", "--propagation", "private")
    if os.getuid() != 0 or subprocess.run([*private, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    return (*private, "sh", "-euc", f'mount -t tmpfs {tmpfs} && exec "$@"', "sh")


def edit(agent: AgentProcess, old: str, new: str) -> None:
    """Change the configuration, once."""
    text = agent.config.read_text()
    assert old in text
    agent.config.write_text(text.replace(old, new, 1))


@contextmanager
def running(*agents: AgentProcess) -> Iterator[None]:
    with ExitStack() as stack:
        for agent in agents:
            stack.callback(agent.close)
            agent.start()
        yield


# -- the store --------------------------------------------------------------------------------


@pytest.fixture
def relay(moto_s3: MotoS3) -> Iterator[Relay]:
    relay = Relay(moto_s3.endpoint_url)
    yield relay
    relay.close()


def on_s3(folder: Path, relay: Relay, moto: MotoS3) -> AgentProcess:
    return AgentProcess(
        folder,
        store_url=f"s3://{moto.make_bucket()}/logs",
        s3={"endpoint_url": relay.url, "addressing": "path"},
        env=moto.env,
        wal=SMALL_WAL,
        flush=QUICK,
        max_record_bytes="64KiB",
    )


def test_a_store_that_is_away_until_the_log_is_full(
    tmp_path: Path, moto_s3: MotoS3, relay: Relay, terminal: Terminal
) -> None:
    agent = on_s3(tmp_path / "a", relay, moto_s3)
    failing = Section("HfAgentFlushFailing", agent)
    paused = Section("HfAgentIngestionPaused", agent)
    full = Section("HfAgentWalAbove80Percent", agent)
    growing = Section("HfAgentWalFilling", agent)
    old = Section("HfAgentUnflushedTooOld", agent)

    def fill() -> None:
        with Client(agent.append_socket, producer=fresh_producer()) as client:
            for _ in range(800):
                client.append("app", bytes(8192))

    sender = threading.Thread(target=fill)
    with running(agent):
        append(agent, "app", b"before\n", flush=True)
        relay.set("away")
        try:
            sender.start()
            line = failing.logged(FLUSH_FAILED, result="retry")
            assert "is the server up and reachable?" in line["reason"]
            assert failing.store("away") == {"away": True}
            reason = failing.stream("app", "error")["error"]
            assert "is the server up and reachable?" in reason
            said = terminal.run(
                failing, *("check-config", "--config", str(agent.config), "--probe"), status=69
            )
            assert "is the server up and reachable?" in said

            line = paused.logged("WAL full: clients wait or are refused")
            assert "at its limit" in line["reason"]
            assert "WAL full" in paused.readyz()
            assert paused.metric("hf_agent_failing_streams", labels='{result="retry"}') == 1
            assert paused.metric("hf_agent_wal_unflushed_bytes") > 0
            size = full.metric("hf_agent_wal_size_bytes")
            assert size > 0.8 * full.metric("hf_agent_wal_max_size_bytes")
            row = full.stream("app", "unflushed_bytes", "oldest_unflushed_timestamp", "error")
            assert row["unflushed_bytes"] > 1_000_000 and row["error"]
            received = growing.metric("hf_agent_received_bytes_total", labels='{protocol="append"}')
            assert received > 100 * growing.metric("hf_agent_flush_bytes_total")
            row = old.stream("app", "oldest_unflushed_timestamp", "error")
            assert row["oldest_unflushed_timestamp"] > 0 and row["error"]

            relay.set("pass")
            sender.join(120)
            terminal.run(failing, "flush", "--socket", str(agent.append_socket), status=0)
            failing.logged("flushing again")
            paused.logged("WAL has room again")
            assert agent.get("/readyz")[0] == 200
        finally:
            relay.set("pass")
            sender.join(120)


def test_a_store_that_was_never_there_and_one_that_denies(
    tmp_path: Path, moto_s3: MotoS3, relay: Relay, terminal: Terminal
) -> None:
    relay.set("away")
    agent = on_s3(tmp_path / "a", relay, moto_s3)
    failing = Section("HfAgentFlushFailing", agent)
    refuses = Section("HfAgentStoreRefuses", agent)
    probe = ("check-config", "--config", str(agent.config), "--probe")
    with running(agent):
        assert failing.logged("the store does not answer")["reason"]
        store = failing.store("away", "preflight", "reason")
        assert (store["away"], store["preflight"]) == (True, "away") and store["reason"]

        relay.set("403")
        line = refuses.logged("the store failed the preflight")
        assert refuses.says("AccessDenied") in line["reason"]
        assert "AccessDenied" in refuses.readyz()
        store = refuses.store("preflight", "reason")
        assert store["preflight"] == "refused" and "AccessDenied" in store["reason"]
        assert "AccessDenied" in terminal.run(refuses, *probe, status=69)

        relay.set("pass")
        append(agent, "app", b"before\n", flush=True)
        relay.set("403")
        append(agent, "app", b"after\n")
        line = refuses.logged(FLUSH_FAILED, result="refused")
        assert "AccessDenied" in line["reason"]
        assert "AccessDenied" in refuses.stream("app", "error")["error"]
        assert "AccessDenied" in refuses.readyz()

        # Over by itself, as the section ends.
        relay.set("pass")
        until(agent, "ready", lambda: agent.get("/readyz")[0] == 200)
        assert agent.stop() == 0


def test_a_bucket_that_does_not_exist(tmp_path: Path, moto_s3: MotoS3, relay: Relay) -> None:
    agent = on_s3(tmp_path / "a", relay, moto_s3)
    edit(agent, agent.store_url, "s3://not-made-yet/logs")
    refuses = Section("HfAgentStoreRefuses", agent)
    with running(agent):
        assert refuses.says("NoSuchBucket") in refuses.logged("the store failed")["reason"]
        assert "create the bucket, or correct store.url" in refuses.readyz()
        moto_s3.make_bucket("not-made-yet")
        until(agent, "ready", lambda: agent.get("/readyz")[0] == 200)


@pytest.mark.parametrize(
    ("options", "alert", "begin", "code"),
    [
        ("ro", "HfAgentStoreRefuses", "the store failed the preflight", "EROFS"),
        ("size=64k,nr_inodes=64", "HfAgentFlushFailing", FLUSH_FAILED, "ENOSPC"),
    ],
)
def test_a_directory_that_is_read_only_or_full(
    tmp_path: Path, options: str, alert: str, begin: str, code: str
) -> None:
    agent = AgentProcess(
        tmp_path / "a", flush=QUICK, launcher=in_own_mounts(f"-o {options} tmpfs store")
    )
    Path(agent.store_url.removeprefix("file://")).mkdir()
    section = Section(alert, agent)
    with running(agent):
        append(agent, "app", bytes(1 << 20))
        line = section.logged(begin)
        assert f"error={section.says(code)}" in line["reason"]
        refused = alert == "HfAgentStoreRefuses"
        assert agent.get("/readyz")[0] == (503 if refused else 200)


@pytest.mark.parametrize("damaged", ["data", "header"])
def test_a_damaged_container(tmp_path: Path, terminal: Terminal, damaged: str) -> None:
    agent = AgentProcess(tmp_path / "a", flush=QUICK)
    refuses = Section("HfAgentStoreRefuses", agent)
    with running(agent):
        for number in range(3):
            append(agent, "app", b"line %d\n" % number, flush=True)
        assert agent.stop() == 0
        newest = tmp_path / "a" / "store" / "node-1" / "app" / "0000000003.0"
        content = bytearray(newest.read_bytes())
        content[content.index(b"line 2") if damaged == "data" else 10] ^= 1
        newest.write_bytes(content)

        agent.start()
        append(agent, "app", b"more\n")
        line = refuses.logged(FLUSH_FAILED, result="refused")
        reason = refuses.says("a damaged container").removeprefix("a ")
        assert reason in line["reason"] and "node-1/app/0000000003.0" in line["reason"]
        assert reason in refuses.readyz()
        uri = f"{agent.store_url}/node-1/app"
        assert "0000000003.0" in terminal.run(refuses, "verify", uri, status=1)

        # What it says to do.
        assert re.search(r"^ +2 ", terminal.run(refuses, "log", uri, status=0), re.M)
        sound = terminal.run(
            refuses, refuses.says("cat --at").split()[0], "--at", "2", uri, status=0
        )
        assert sound == "line 0\nline 1\n"
        if damaged == "data":
            saved = terminal.run(refuses, "cat", "--ignore-checksums", uri, status=0)
            assert saved.startswith("line 0\nline 1\n")
            terminal.run(refuses, "rollback", uri, "2", status=0)
        else:
            assert "damaged container" in terminal.run(refuses, "rollback", uri, "2", status=1)
            elsewhere = f"file://{tmp_path}/elsewhere/app"
            terminal.run(refuses, "cp", "--at", "2", uri, elsewhere, status=0)
            assert terminal.run(refuses, "cat", elsewhere, status=0) == sound
            terminal.run(refuses, "rm", uri, status=0)
        append(agent, "app", b"end\n", flush=True)
        assert agent.get("/readyz")[0] == 200
        row = Section("HfAgentConflict", agent).stream("app", "key", "diverted")
        assert row["diverted"] is (damaged == "data")
        assert asyncio.run(read_container(agent, row["key"])) == b"more\nend\n"


def test_another_agent_with_the_same_name(tmp_path: Path) -> None:
    one = AgentProcess(tmp_path / "one", flush=QUICK)
    other = AgentProcess(tmp_path / "other", store_url=one.store_url, flush=QUICK)
    with running(one, other):
        append(one, "app", b"of one\n", flush=True)
        append(other, "app", b"of the other\n", flush=True)
        append(one, "app", b"of one again\n", flush=True)
        (diverted,) = [each for each in (one, other) if "conflict: another" in each.log_text()]
        conflict = Section("HfAgentConflict", diverted)
        line = conflict.logged("conflict: another writer has written to this stream's container")
        row = conflict.stream("app", "diverted", "conflicts", "key")
        assert (row["diverted"], row["conflicts"]) == (True, 1)
        assert row["key"] == line["sibling"]
        assert row["key"].startswith(line["container"] + conflict.says(".conflict-"))
        assert conflict.metric("hf_agent_store_conflicts_total") == 1
        assert conflict.metric("hf_agent_diverted_streams") == 1
        # "Compare `node` of all agents whose `store.url` is the same."
        told = [json.loads(each.get("/api/status")[1]) for each in (one, other)]
        conflict.says("compare `node` in `/api/status`")
        assert told[0]["node"] == told[1]["node"]
        assert told[0]["store"]["url"] == told[1]["store"]["url"]


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
