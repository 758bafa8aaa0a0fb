"""Faults of stores and containers are brought about; the runbook's sections lead to the cause."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.client import Client, fresh_producer
from support.agent_process import AgentProcess
from support.containers import read_container
from support.moto_s3 import MotoS3, moto_s3
from support.relay import Relay
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

__all__ = ["moto_s3", "terminal"]


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
