"""`append`, `flush`, `status` and `wal inspect` against a real agent process."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hf_agent.cli.main import main
from support.agent_process import AgentProcess


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """One agent for all of these tests: each uses streams of its own."""
    agent = AgentProcess(tmp_path_factory.mktemp("agent"), max_record_bytes="64KiB").start()
    yield agent
    assert agent.stop() == 0, agent.log_text()


class Command:
    """Commands in this process, against `agent`."""

    def __init__(
        self,
        agent: AgentProcess,
        capfdbinary: pytest.CaptureFixture[bytes],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.agent = agent
        self._capture = capfdbinary
        self._monkeypatch = monkeypatch

    def __call__(self, *args: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        status = main(list(args))
        out, err = self._capture.readouterr()
        return status, out, err.decode()

    def append(self, stream: str, data: bytes, *args: str) -> tuple[int, bytes, str]:
        return self("append", *self.socket, "--stream", stream, *args, stdin=data)

    @property
    def socket(self) -> tuple[str, str]:
        return "--socket", str(self.agent.append_socket)

    def content(self, stream: str) -> bytes:
        status, _, err = self("flush", *self.socket, stream)
        assert (status, err) == (0, "")
        status, out, err = self("cat", f"{self.agent.store_url}/node-1/{stream}")
        assert (status, err) == (0, "")
        return out


@pytest.fixture
def command(
    agent: AgentProcess,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> Command:
    return Command(agent, capfdbinary, monkeypatch)


def test_standard_input_is_acknowledged_flushed_and_read_back(command: Command) -> None:
    data = b"".join(b"line %d\n" % i for i in range(5000))
    status, out, err = command.append("stdin", data)
    assert (status, err) == (0, "")
    size = len(data)
    assert out.decode() == f"acknowledged {size} bytes in 5000 appends; stdin is at {size}\n"
    assert command.content("stdin") == data


def test_a_file_is_sent_and_the_summary_is_json_where_it_is_asked_for(
    command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"one\ntwo\nno newline")
    status, out, err = command.append("file", b"", "--json", str(path))
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "stream": "file",
        "appends": 3,
        "bytes": 18,
        "position": 18,
        "ack": "wal",
    }
    assert command.content("file") == b"one\ntwo\nno newline"


def test_chunks_carry_bytes_without_newlines(command: Command) -> None:
    data = os.urandom(1 << 20)
    status, out, _ = command.append("chunks", data, "--by", "chunk", "--ack", "store")
    assert status == 0
    assert b"1048576 bytes in 16 appends" in out
    # The store has it already: that is what was waited for.
    _, out, _ = command("cat", f"{command.agent.store_url}/node-1/chunks")
    assert out == data


def test_nothing_to_send_is_no_error(command: Command) -> None:
    assert command.append("nothing", b"") == (0, b"acknowledged 0 bytes in 0 appends\n", "")


def test_a_line_over_the_limit_is_named_and_what_came_before_is_kept(command: Command) -> None:
    status, out, err = command.append("long", b"one\ntwo\n" + bytes(70_000) + b"\nfour\n")
    assert (status, out) == (1, b"")
    assert err == (
        "hf-agent: line 3 was refused: record is over the agent's limit bytes=70001 limit=65536; "
        "send it with --by chunk; acknowledged up to append 2 stream=long\n"
    )
    assert command.content("long") == b"one\ntwo\n"


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a b", "x" * 201])
def test_a_name_that_is_none_is_a_usage_error(command: Command, name: str) -> None:
    status, _, err = command.append(name, b"x")
    assert status == 64
    assert "is not a stream's name" in err


def test_a_missing_file_is_one_line(command: Command, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    status, _, err = command.append("file", b"", missing)
    assert (status, err) == (1, f"hf-agent: no such file or directory: {missing}\n")


def test_an_append_may_expect_the_stream_at_a_position(command: Command) -> None:
    assert command.append("cas", b"1\n22\n", "--expect-position", "0")[0] == 0
    status, out, err = command.append("cas", b"3\n4\n5\n", "--expect-position", "0")
    assert (status, out) == (1, b"")
    assert err == (
        "hf-agent: line 1 was refused: stream is not at the expected position cas=5; "
        "nothing was acknowledged stream=cas\n"
    )
    assert command.append("cas", b"333\n4\n", "--expect-position", "5")[0] == 0
    assert command.content("cas") == b"1\n22\n333\n4\n"
    assert command.append("cas", b"", "--expect-position", "-1")[0] == 64


def test_no_agent_is_one_line_that_names_the_socket(command: Command, tmp_path: Path) -> None:
    for args in (["append", "--stream", "x"], ["flush"], ["status"]):
        status, _, err = command(*args, "--socket", str(tmp_path / "none.sock"))
        assert status == 1
        assert err == (
            "hf-agent: cannot reach the agent: no such file or directory; is it running? "
            f"path={tmp_path}/none.sock\n"
        )


def test_flush_of_everything_and_of_an_unknown_stream(command: Command) -> None:
    command.append("all", b"x\n")
    assert command("flush", *command.socket) == (0, b"", "")
    assert command("cat", f"{command.agent.store_url}/node-1/all")[1] == b"x\n"
    status, _, err = command("flush", *command.socket, "never-heard-of")
    assert status == 1
    assert err.startswith("hf-agent: request was refused: ")
    assert "code=unknown_stream" in err


def test_status_is_for_people_or_for_scripts(command: Command) -> None:
    status, out, err = command("status", *command.socket, "--json")
    assert (status, err) == (0, "")
    values = json.loads(out)
    assert (values["phase"], values["node"], values["ready"]) == ("running", "node-1", True)
    lines = command("status", *command.socket)[1].decode().splitlines()
    fields = {line.split("  ")[0].strip(): line.split("  ")[-1].strip() for line in lines}
    assert fields["phase"] == "running"
    assert fields["ready"] == "yes"
    assert fields["started time"].endswith("Z")
    assert fields["wal state"] == "ok"


def test_wal_inspect_sums_what_the_log_holds(command: Command) -> None:
    command.append("inspected", b"1234\n" * 10)
    directory = str(command.agent.wal_dir)
    status, out, err = command("wal", "inspect", directory, "--json")
    assert (status, err) == (0, "")
    sums = json.loads(out)
    assert sums["faults"] == []
    (stream,) = [each for each in sums["streams"] if each["name"] == "inspected"]
    assert (stream["bytes"], stream["first_position"], stream["end_position"]) == (50, 0, 50)
    assert sums["files"][0]["name"] == "0000000000000001.wal"
    lines = command("wal", "inspect", directory)[1].decode().splitlines()
    assert lines[0].split()[:4] == ["FILE", "SIZE", "FREE", "RECORDS"]
    assert any(line.split()[:1] == ["inspected"] for line in lines)


def test_wal_inspect_shows_each_record(command: Command) -> None:
    command.append("recorded", b"x\n")
    directory = str(command.agent.wal_dir)
    rows = json.loads(command("wal", "inspect", directory, "--records", "--json")[1])
    assert rows[0]["kind"] == "file"
    assert {"data", "stream", "marks", "end"} <= {row["kind"] for row in rows}
    lines = command("wal", "inspect", directory, "--records")[1].decode().splitlines()
    assert any(line.split()[1] == "data" and "recorded at 0" in line for line in lines)


def test_wal_inspect_of_a_damaged_log_ends_with_1(command: Command, tmp_path: Path) -> None:
    command.append("damaged", b"something to find\n" * 100)
    command.append("damaged", b"something behind it\n")
    (original,) = command.agent.wal_files()
    data = bytearray(original.read_bytes())
    data[data.rindex(b"something to find")] ^= 1
    copy = tmp_path / original.name
    copy.write_bytes(data)
    status, out, err = command("wal", "inspect", str(tmp_path))
    assert status == 1
    assert "damage: 0000000000000001.wal:" in out.decode()
    assert err.startswith("hf-agent: the write-ahead log is damaged: checksum mismatch")
    assert f"file={copy} offset=" in err
    assert command("wal", "inspect", str(tmp_path), "--records")[0] == 1


def test_wal_inspect_of_no_directory_is_one_line(command: Command, tmp_path: Path) -> None:
    status, _, err = command("wal", "inspect", str(tmp_path / "none"))
    assert (status, err) == (1, f"hf-agent: no such file or directory: {tmp_path}/none\n")


def test_a_terminal_gets_a_progress_bar_and_a_pipe_gets_none(
    agent: AgentProcess, tmp_path: Path
) -> None:
    path = tmp_path / "input"
    path.write_bytes(bytes(8 << 20))
    args = [sys.executable, "-m", "hf_agent", "append", "--by", "chunk", "--stream", "bar"]
    args += ["--socket", str(agent.append_socket), str(path)]
    ours, theirs = pty.openpty()
    done = subprocess.run(args, stdout=subprocess.PIPE, stderr=theirs, timeout=60)
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError:
        pass  # what a terminal says when nobody has its other end any more
    os.close(ours)
    assert done.returncode == 0
    assert done.stdout.startswith(b"acknowledged 8388608 bytes")
    assert b"MiB" in shown
    piped = subprocess.run(args, capture_output=True, timeout=60)
    assert (piped.returncode, piped.stderr) == (0, b"")


def test_an_agent_that_restarts_meanwhile_gets_everything_once(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    agent = AgentProcess(tmp_path / "agent").start()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "hf_agent", "append", "--stream", "restarted"),
            *("--socket", str(agent.append_socket), "--json"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    data = [b"line %d\n" % i for i in range(30_000)]
    try:
        for start in range(0, len(data), 10_000):
            process.stdin.writelines(data[start : start + 10_000])
            process.stdin.flush()
            agent.kill()
            agent.start()
        out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
        assert json.loads(out)["position"] == len(b"".join(data))
        assert agent.stop() == 0
    finally:
        process.kill()
        process.wait()
        agent.close()
    assert main(["cat", f"{agent.store_url}/node-1/restarted"]) == 0
    assert capfdbinary.readouterr().out == b"".join(data)
